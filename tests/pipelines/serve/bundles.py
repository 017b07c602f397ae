"""Patients of the small cohort as FHIR R4 bundles, as a hospital's server would send them."""

from datetime import UTC, datetime, timedelta

import polars as pl

from tests.pipelines import cohorts

SYSTEMS = {"ICD10CM": "http://hl7.org/fhir/sid/icd-10-cm", "LOINC": "http://loinc.org"}
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def moment(time):
    """Return microseconds since 1970 as FHIR says it."""
    return (EPOCH + timedelta(microseconds=time)).isoformat()


def bundle(subject, name=None):
    """Return the bundle of one patient.

    Args:
        subject: its number in the cohort.
        name: its id in FHIR.
    """
    name = name or f"case-{subject}"
    frame = cohorts.events(200).filter(pl.col("subject_id") == subject)
    rows = frame.select(pl.col("time").to_physical(), "code", "numeric_value").rows()
    patient = {"resourceType": "Patient", "id": name}
    found, started = [patient], None
    for time, code, value in rows:
        system, _, word = code.partition("//")
        about = {"subject": {"reference": f"Patient/{name}"}}
        concept = {"coding": [{"system": SYSTEMS.get(system, system), "code": word}]}
        if system == "SEX":
            patient["gender"] = "female" if word == "F" else "male"
        elif code == "MEDS_BIRTH":
            patient["birthDate"] = moment(time)[:10]
        elif word.endswith("START"):
            started = time
        elif word.endswith("END"):
            period = {"start": moment(started), "end": moment(time)}
            kind = {"code": word.split("//")[0]}
            found.append({"resourceType": "Encounter", "status": "finished", "class": kind, "period": period, **about})
        elif system == "LOINC":
            held = {"effectiveDateTime": moment(time), "valueQuantity": {"value": value, "unit": "g/dL"}}
            found.append({"resourceType": "Observation", "status": "final", "code": concept, **held, **about})
        else:
            found.append({"resourceType": "Condition", "code": concept, "onsetDateTime": moment(time), **about})
    return {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": held} for held in found]}


def rows(subject):
    """Return the MEDS rows of one patient as a request holds them."""
    frame = cohorts.events(200).filter(pl.col("subject_id") == subject)
    return {"events": frame.with_columns(pl.col("time").dt.to_string("iso:strict")).to_dicts()}
