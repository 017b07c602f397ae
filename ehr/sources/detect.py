"""Which format a path holds, and the source it opens as."""

import importlib
from pathlib import Path

from ehr.sources.parts import Source

FORMATS = {
    "meds": "parquet with subject_id, time and code, in data/ or alone",
    "omop": "a folder with person and visit_occurrence as CSV or parquet",
    "fhir": "NDJSON files by resource, or bundles in JSON",
    "mimic": "a folder with PATIENTS.csv and ADMISSIONS.csv",
}


def detect(path: Path) -> str:
    """Return the format of a path: meds, omop, fhir or mimic.

    Raises:
        ValueError: the path is missing or empty, fits no format, or several; plain tables are never guessed.
    """
    if not path.exists():
        raise ValueError(f"{path}: no such file or folder; expected health records")
    if path.is_dir() and not any(path.iterdir()):
        raise ValueError(f"{path}: an empty folder; expected health records")
    if path.is_file() and path.stat().st_size == 0:
        raise ValueError(f"{path}: an empty file; expected health records")
    fitting = [name for name in FORMATS if importlib.import_module(f"ehr.sources.{name}").matches(path)]
    if len(fitting) > 1:
        raise ValueError(f"{path}: fits {' and '.join(fitting)}; expected one format; pass --format {fitting[0]}, say")
    if fitting:
        return fitting[0]
    found = sorted(entry.name for entry in path.iterdir())[:5] if path.is_dir() else [path.name]
    expected = "; ".join(f"{name}: {what}" for name, what in FORMATS.items())
    raise ValueError(
        f"{path}: no known format (found {', '.join(found)}); expected {expected}; for other tables pass --columns FILE"
    )


def open_source(path: Path, *, format: str = "auto", columns: Path | None = None, repair: bool = False) -> Source:
    """Open records of any format.

    Args:
        path: file or folder.
        format: auto, meds, omop, fhir, mimic or table.
        columns: the column map of plain tables; its presence makes the format `table`.
        repair: sort what should have come sorted.

    Raises:
        ValueError: see `detect` and the reader of the format.
    """
    if columns is not None and format in {"auto", "table"}:
        return importlib.import_module("ehr.sources.table").open(path, columns)
    if columns is not None:
        raise ValueError(f"format {format}: got --columns, which maps plain tables; leave out one of them")
    if format == "table":
        raise ValueError("format table: no column map; pass --columns FILE (see docs/how-to/tables.md)")
    if format not in {"auto", *FORMATS}:
        raise ValueError(f"format {format}: expected auto, table, {', '.join(FORMATS)}")
    chosen = detect(path) if format == "auto" else format
    if not path.exists():
        raise ValueError(f"{path}: no such file or folder; expected health records")
    return importlib.import_module(f"ehr.sources.{chosen}").open(path, repair=repair)
