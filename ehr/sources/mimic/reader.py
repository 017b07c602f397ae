"""MIMIC-III and MIMIC-IV: finds the tables, opens them by their headers, joins what a row alone does not tell."""

from pathlib import Path

import polars as pl

from ehr.events import EVENTS, first_line, order
from ehr.sources import rows, sheets
from ehr.sources.mimic import patients
from ehr.sources.mimic.tables import DISCHARGED, LOINC, Stage, Table, cell
from ehr.sources.mimic.versions import TABLES
from ehr.sources.parts import Part, Source
from ehr.sources.sheets import Sheet

FOLDERS = ("hosp", "icu", "core")
ENDINGS = (".csv", ".csv.gz")
REMEDY = "expected the columns of MIMIC as published; take the original file, or map it with --columns"


def matches(path: Path) -> bool:
    """Tell whether a folder holds MIMIC: PATIENTS and ADMISSIONS as CSV, in any case, in hosp/ or not."""
    return path.is_dir() and {"patients", "admissions"} <= {name for name, _ in tables_below(path)}


def tables_below(path: Path) -> list[tuple[str, Path]]:
    """Return table names in lower case with their files, in a fixed order."""
    folders = [path, *sorted(entry for entry in path.iterdir() if entry.is_dir() and entry.name.lower() in FOLDERS)]
    files = [file for folder in folders for file in sorted(folder.iterdir()) if file.name.lower().endswith(ENDINGS)]
    return [(sheets.stem(file).lower(), file) for file in files]


def open(path: Path, *, repair: bool = False) -> Source:
    """Open MIMIC-III or MIMIC-IV.

    Args:
        path: the folder of its CSV files, or the one above hosp/ and icu/.
        repair: accepted as of other readers; the tables are sorted in any case.

    Raises:
        ValueError: no such folder; PATIENTS or ADMISSIONS absent, a table twice, damaged, or short of a column.
    """
    del repair
    opened = {name: sheets.read(file, name=label).lower() for name, (file, label) in known_tables(path).items()}
    for name in ("patients", "admissions"):
        if name not in opened:
            raise ValueError(f"{path}: no {name.upper()}.csv; expected the tables of MIMIC; copy it there too")
    version = version_of(opened["patients"])
    opened["admissions"].need(("subject_id", "hadm_id", "admittime", "dischtime", "deathtime"), REMEDY)
    parts = people(opened["patients"], opened["admissions"], version)
    parts += [(table.stage, part(table, opened, report)) for table, report in reports(version) if table.name in opened]
    parts.sort(key=lambda pair: pair[0])
    return Source("mimic", version, tuple(part for _, part in parts), notes=notes(opened, version))


def scan(path: Path) -> pl.LazyFrame:
    """Return all events of MIMIC in canonical order, lazy, without rows that cannot be used (see `open`)."""
    usable = [part.events.filter(pl.col("reject").is_null()).select(EVENTS.names()) for part in open(path).parts]
    return order(pl.concat(usable))


def known_tables(path: Path) -> dict[str, tuple[Path, str]]:
    """Return files of the tables that are read, and what to call them, by name."""
    if not path.is_dir():
        raise ValueError(f"{path}: not a folder; expected the folder with the CSV files of MIMIC; pass that")
    wanted = {table.name for each in TABLES.values() for table in each} | {"patients", "d_labitems"}
    found: dict[str, tuple[Path, str]] = {}
    for name, file in tables_below(path):
        label = file.relative_to(path).as_posix()
        if name in found:
            raise ValueError(f"{path}: {found[name][1]} and {label} are one table; expected one file; take one away")
        if name in wanted:
            found[name] = (file, label)
    return found


def version_of(people: Sheet) -> str:
    """Return III or IV by the columns of PATIENTS."""
    if "anchor_age" in people.kinds:
        people.need(("subject_id", "gender", "anchor_year", "dod"), REMEDY)
        return "IV"
    if "dob" in people.kinds:
        people.need(("subject_id", "gender", "dod"), REMEDY)
        return "III"
    raise ValueError(
        f"{people.name}: no column dob (III) or anchor_age (IV); found {', '.join(people.kinds)}; {REMEDY}"
    )


def reports(version: str) -> list[tuple[Table, bool]]:
    """Return the tables of a version, and whether each is the one to list unusable rows of its file."""
    seen: set[str] = set()
    listed: list[tuple[Table, bool]] = []
    for table in TABLES[version]:
        listed.append((table, table.name not in seen))
        seen.add(table.name)
    return listed


def people(persons: Sheet, admissions: Sheet, version: str) -> list[tuple[Stage, Part]]:
    """Return the parts of patients: sex, birth, death and the race stated at the first admission."""
    bad = rows.bad_subject(cell("subject_id"), "subject_id")
    frame = patients.with_stays(persons, admissions)
    parts = [
        (stage, Part(persons.name, rows.events(frame, patients.subject(), items, reject=bad, report=stage == 0)))
        for stage, items in patients.items(version).items()
    ]
    stated, race = patients.races(admissions)
    events = rows.events(stated, patients.subject(), [race], reject=bad, report=False)
    return [*parts, (Stage.STATIC, Part(admissions.name, events))]


def part(table: Table, opened: dict[str, Sheet], report: bool) -> Part:  # noqa: FBT001
    """Return a table as a part of EVENTS."""
    sheet = opened[table.name]
    sheet.need(("subject_id", *table.columns), REMEDY)
    absent = [pl.lit(None, pl.String).alias(column) for column in table.optional if column not in sheet.kinds]
    frame = sheet.frame.with_columns(absent)
    if table.keep is not None:
        frame = frame.filter(table.keep)
    if table.admission:
        frame = join(frame, discharges(opened["admissions"]), "hadm_id")
    if table.name == "labevents":
        frame = join(frame, loinc(opened.get("d_labitems")), "itemid")
    empty = [
        pl.when(cell(column).is_null()).then(pl.lit(f"{column}: empty; expected a code")) for column in table.filled
    ]
    reject = pl.coalesce(rows.bad_subject(cell("subject_id"), "subject_id"), *empty)
    events = rows.events(frame, patients.subject(), table.items, reject=reject, report=report)
    return Part(sheet.name, distinct(events) if table.distinct else events)


def join(frame: pl.LazyFrame, lookup: pl.LazyFrame, column: str) -> pl.LazyFrame:
    """Return rows, in their order, with what a lookup says of one of their columns."""
    return frame.with_columns(cell(column).alias("#key")).join(lookup, on="#key", how="left", maintain_order="left")


def discharges(admissions: Sheet) -> pl.LazyFrame:
    """Return the discharge of each admission."""
    found = admissions.frame.select(cell("hadm_id").alias("#key"), sheets.moment(cell("dischtime")).alias(DISCHARGED))
    return found.filter(pl.col("#key").is_not_null()).unique("#key", keep="first", maintain_order=True)


def loinc(items: Sheet | None) -> pl.LazyFrame:
    """Return the LOINC code of each laboratory item that has one."""
    if items is None or "loinc_code" not in items.kinds:
        return pl.LazyFrame(schema={"#key": pl.String(), LOINC: pl.String()})
    items.need(("itemid",), REMEDY)
    found = items.frame.select(cell("itemid").alias("#key"), cell("loinc_code").alias(LOINC))
    return found.drop_nulls().unique("#key", keep="first", maintain_order=True)


def distinct(events: pl.LazyFrame) -> pl.LazyFrame:
    """Return each event once; rows that cannot be used stay as many as they are."""
    own = pl.when(pl.col("reject").is_not_null()).then(pl.col("row")).alias("#own")
    keys = ["subject_id", "time", "code", "reject", "#own"]
    return events.with_columns(own).unique(keys, keep="first", maintain_order=True).drop("#own")


def notes(opened: dict[str, Sheet], version: str) -> tuple[str, ...]:
    """Return what to know of this copy: tables absent, ages not told, dates shifted."""
    absent = sorted({table.name for table in TABLES[version]} - set(opened))
    said = [f"tables absent: {', '.join(absent)}"] if absent else []
    labs = opened.get("d_labitems")
    if "labevents" in opened and (labs is None or "loinc_code" not in labs.kinds):
        said.append("no loinc_code in d_labitems: laboratory codes are MIMIC_LAB//itemid")
    over = oldest(opened, version)
    if over:
        said.append(f"{over} patients over 89: age not told, taken as {patients.OLDEST}")
    return (*said, "dates are shifted by patient, most of them into the future")


def oldest(opened: dict[str, Sheet], version: str) -> int:
    """Count patients whose age is not told. Only patients and admissions are read."""
    people = opened["patients"]
    try:
        if version == "III":
            marked = patients.with_stays(people, opened["admissions"]).select(patients.is_shifted().sum())
        else:
            marked = people.frame.select((cell("anchor_age") == str(patients.OLDEST)).sum())
        return int(marked.collect().item() or 0)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise ValueError(f"{people.name}: cannot be read ({first_line(error)}); copy it again") from None
