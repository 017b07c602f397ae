"""The same invented patients written in each format that Anamnesis reads."""

import csv
import json
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

LABS = {"718-7": 50931}


class Fact(NamedTuple):
    """Something that happened to a patient: condition, lab, visit (with an end) or death."""

    patient: int
    kind: str
    time: datetime
    code: str = ""
    value: float | None = None
    end: datetime | None = None


class Patient(NamedTuple):
    """Who it happened to."""

    number: int
    sex: str
    birth: datetime


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a table as CSV."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)


def meds(patients: Sequence[Patient], facts: Sequence[Fact], folder: Path) -> None:
    """MEDS: one parquet file, sorted by subject and time."""
    rows: list[tuple[Any, ...]] = []
    for who in patients:
        rows.append((who.number, None, f"SEX//{who.sex}", None))
        rows.append((who.number, who.birth, "MEDS_BIRTH", None))
    for fact in facts:
        match fact.kind:
            case "visit":
                rows.append((fact.patient, fact.time, f"VISIT//{fact.code}//START", None))
                rows.append((fact.patient, fact.end, f"VISIT//{fact.code}//END", None))
            case "condition":
                rows.append((fact.patient, fact.time, f"ICD10CM//{fact.code}", None))
            case "lab":
                rows.append((fact.patient, fact.time, f"LOINC//{fact.code}", fact.value))
            case kind:
                rows.append((fact.patient, fact.time, f"MEDS_{kind.upper()}", None))
    schema = {
        "subject_id": pl.Int64,
        "time": pl.Datetime("us"),
        "code": pl.String,
        "numeric_value": pl.Float32,
    }
    frame = pl.DataFrame(rows, schema=schema, orient="row")
    (folder / "data").mkdir(parents=True)
    frame.sort("subject_id", "time", nulls_last=False, maintain_order=True).write_parquet(folder / "data/0.parquet")


def table(patients: Sequence[Patient], facts: Sequence[Fact], folder: Path) -> None:
    """Plain tables: one of patients and one of facts."""
    write_csv(folder / "people.csv", ("id", "sex", "born"), [(p.number, p.sex, p.birth) for p in patients])
    rows: list[tuple[Any, ...]] = []
    for fact in facts:
        match fact.kind:
            case "visit":
                rows.append((fact.patient, fact.time, f"VISIT//{fact.code}//START", ""))
                rows.append((fact.patient, fact.end, f"VISIT//{fact.code}//END", ""))
            case "death":
                rows.append((fact.patient, fact.time, "MEDS_DEATH", ""))
            case kind:
                system = "LOINC" if kind == "lab" else "ICD10CM"
                rows.append((fact.patient, fact.time, f"{system}//{fact.code}", "" if kind != "lab" else fact.value))
    write_csv(folder / "facts.csv", ("id", "when", "code", "value"), rows)


COLUMNS = """description: two plain tables
tables:
  people:
    files: people.csv
    subject: id
    birth: {date: {column: born}}
    static:
      - code: SEX//{sex}
  facts:
    files: facts.csv
    subject: id
    time: {column: when}
    events:
      - {code: "{code}", value: value}
"""


def omop(patients: Sequence[Patient], facts: Sequence[Fact], folder: Path) -> None:
    """OMOP CDM 5.4 as CSV, with a vocabulary of the codes in use."""
    codes = sorted({(f.kind, f.code) for f in facts if f.kind in {"condition", "lab"}})
    number = {key: 1000 + at for at, key in enumerate(codes)}
    named = [
        (number[kind, code], code, "Condition", "ICD10CM" if kind == "condition" else "LOINC", "x", "S", code)
        for kind, code in codes
    ]
    columns = "concept_id concept_name domain_id vocabulary_id concept_class_id standard_concept concept_code"
    write_csv(folder / "concept.csv", columns.split(), named)
    write_csv(
        folder / "person.csv",
        ("person_id", "gender_concept_id", "year_of_birth", "birth_datetime", "gender_source_value"),
        [(p.number, 8532 if p.sex == "F" else 8507, p.birth.year, p.birth, p.sex) for p in patients],
    )
    visits = [f for f in facts if f.kind == "visit"]
    write_csv(
        folder / "visit_occurrence.csv",
        (
            *("visit_occurrence_id", "person_id", "visit_concept_id", "visit_start_date", "visit_start_datetime"),
            *("visit_end_date", "visit_end_datetime"),
        ),
        [
            (at, f.patient, 9201 if f.code == "IP" else 9202, f.time.date(), f.time, f.end.date(), f.end)
            for at, f in enumerate(visits)
            if f.end
        ],
    )
    write_csv(
        folder / "condition_occurrence.csv",
        (
            *("condition_occurrence_id", "person_id", "condition_concept_id", "condition_start_date"),
            "condition_start_datetime",
        ),
        [
            (at, f.patient, number[f.kind, f.code], f.time.date(), f.time)
            for at, f in enumerate(facts)
            if f.kind == "condition"
        ],
    )
    write_csv(
        folder / "measurement.csv",
        (
            *("measurement_id", "person_id", "measurement_concept_id", "measurement_date"),
            *("measurement_datetime", "value_as_number"),
        ),
        [
            (at, f.patient, number[f.kind, f.code], f.time.date(), f.time, f.value)
            for at, f in enumerate(facts)
            if f.kind == "lab"
        ],
    )
    deaths = [(f.patient, f.time.date(), f.time) for f in facts if f.kind == "death"]
    write_csv(folder / "death.csv", ("person_id", "death_date", "death_datetime"), deaths)


def fhir(patients: Sequence[Patient], facts: Sequence[Fact], folder: Path) -> None:
    """FHIR R4 bulk export: a file of lines a resource type."""

    def stamp(time: datetime) -> str:
        return time.isoformat() + "Z"

    def coding(system: str, code: str) -> dict[str, Any]:
        return {"coding": [{"system": system, "code": code}]}

    died = {f.patient: f.time for f in facts if f.kind == "death"}
    resources: dict[str, list[dict[str, Any]]] = {"Patient": [], "Encounter": [], "Condition": [], "Observation": []}
    for who in patients:
        gender = {"F": "female", "M": "male"}[who.sex]
        held = {"id": str(who.number), "gender": gender, "birthDate": str(who.birth.date())}
        if who.number in died:
            held["deceasedDateTime"] = stamp(died[who.number])
        resources["Patient"].append(held)
    for at, fact in enumerate(facts):
        about = {"id": f"x{at}", "subject": {"reference": f"Patient/{fact.patient}"}}
        match fact.kind:
            case "visit":
                assert fact.end
                kind = {"class": {"code": "IMP" if fact.code == "IP" else "AMB"}}
                period = {"start": stamp(fact.time), "end": stamp(fact.end)}
                resources["Encounter"].append({**about, "status": "finished", **kind, "period": period})
            case "condition":
                code = coding("http://hl7.org/fhir/sid/icd-10-cm", fact.code)
                resources["Condition"].append({**about, "code": code, "onsetDateTime": stamp(fact.time)})
            case "lab":
                code = coding("http://loinc.org", fact.code)
                quantity = {"value": fact.value, "unit": "g/dL"}
                when = stamp(fact.time)
                observed = {"status": "final", "code": code, "effectiveDateTime": when, "valueQuantity": quantity}
                resources["Observation"].append({**about, **observed})
            case _:
                continue
    folder.mkdir(parents=True)
    for kind, held in resources.items():
        lines = [json.dumps({"resourceType": kind, **resource}) for resource in held]
        (folder / f"{kind}.ndjson").write_text("".join(line + "\n" for line in lines), encoding="utf-8")


def mimic(patients: Sequence[Patient], facts: Sequence[Fact], folder: Path) -> None:
    """MIMIC-IV as CSV: a diagnosis is known at a discharge, so that a condition is a day's admission of its own."""
    died = {f.patient: f.time for f in facts if f.kind == "death"}
    hosp = folder / "hosp"
    write_csv(
        hosp / "patients.csv",
        ("subject_id", "gender", "anchor_age", "anchor_year", "anchor_year_group", "dod"),
        [
            (
                p.number,
                p.sex,
                2000 - p.birth.year,
                2000,
                "2014 - 2016",
                died[p.number].date() if p.number in died else "",
            )
            for p in patients
        ],
    )
    stays = [f for f in facts if f.kind in {"visit", "condition"}]
    write_csv(
        hosp / "admissions.csv",
        (
            *("subject_id", "hadm_id", "admittime", "dischtime", "deathtime", "admission_type"),
            *("admission_location", "discharge_location", "insurance", "marital_status", "race"),
            *("edregtime", "edouttime", "hospital_expire_flag"),
        ),
        [
            (f.patient, at, f.time, f.end or f.time + timedelta(days=1), "", "URGENT", *[""] * 7, 0)
            for at, f in enumerate(stays)
        ],
    )
    write_csv(
        hosp / "diagnoses_icd.csv",
        ("subject_id", "hadm_id", "seq_num", "icd_code", "icd_version"),
        [(f.patient, at, 1, f.code.replace(".", ""), 10) for at, f in enumerate(stays) if f.kind == "condition"],
    )
    write_csv(
        hosp / "labevents.csv",
        ("subject_id", "hadm_id", "itemid", "charttime", "storetime", "value", "valuenum", "valueuom"),
        [(f.patient, "", LABS["718-7"], f.time, "", f.value, f.value, "g/dL") for f in facts if f.kind == "lab"],
    )
    write_csv(hosp / "d_labitems.csv", ("itemid", "label", "fluid", "category"), [(50931, "x", "Blood", "Chemistry")])
