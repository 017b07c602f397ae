"""Labels made elsewhere, and ours for others: MEDS label files, one an outcome and horizon."""

from functools import lru_cache
from pathlib import Path

import polars as pl

from ehr.events import EVENTS, KINDS, cast, first_line, write
from ehr.outcomes.labels import ATTRITION, LABELS
from ehr.outcomes.registry import NAME, Outcome, Registry

COLUMNS = ("subject_id", "prediction_time", "boolean_value")


def label_files(path: Path) -> dict[str, list[Path]]:
    """Return label files by outcome: a file's own name, or the folder's below which its parts stand.

    Raises:
        ValueError: no label file is there, or a name is none that an outcome can have.
    """
    if not path.exists():
        raise ValueError(f"{path}: no such file or folder; expected MEDS labels in parquet")
    files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
    found: dict[str, list[Path]] = {}
    for file in files:
        home = path if path.is_dir() else path.parent
        inside = file.relative_to(home).parts
        name = inside[0] if len(inside) > 1 else file.stem
        # Files that are numbers are parts of what their folder names.
        name = (home.name if name.isdigit() else name).lower().replace("-", "_").replace(" ", "_")
        if not NAME.fullmatch(name):
            raise ValueError(f"{file}: {name!r} cannot name an outcome; expected letters, digits and underscores")
        found.setdefault(name, []).append(file)
    if not found:
        raise ValueError(f"{path}: no parquet files; expected MEDS labels")
    return found


def registry_of(path: Path | None) -> Registry:
    """Return a registry of the outcomes in label files: no events, one window of unknown length (0 days)."""
    if path is None:
        return Registry(())
    read(path)
    return Registry(tuple(Outcome(name=name, any_of=(), horizons_days=(0,)) for name in label_files(path)))


@lru_cache(maxsize=1)
def read(path: Path) -> pl.DataFrame:
    """Read MEDS labels (0.3 or 0.4) as LABELS.

    Raises:
        ValueError: a file is damaged, lacks a column, or labels a patient twice at one time.
    """
    frames: list[pl.DataFrame] = []
    for name, files in label_files(path).items():
        for file in files:
            try:
                table = pl.read_parquet(file)
            except (pl.exceptions.PolarsError, OSError) as error:
                raise ValueError(f"{file}: not a whole parquet file ({first_line(error)}); copy it again") from None
            missing = [column for column in COLUMNS if column not in table.columns]
            if missing:
                found = ", ".join(table.columns)
                raise ValueError(f"{file}: no column {missing[0]}; found {found}; expected {', '.join(COLUMNS)}")
            frames.append(conformed(table, name, file))
    labels = pl.concat(frames)
    if labels.select("subject_id", "prediction_time", "outcome").is_duplicated().any():
        raise ValueError(f"{path}: a patient is labelled twice at one time; expected one label each")
    return labels.sort("subject_id", "prediction_time", "outcome", "horizon_days")


def conformed(table: pl.DataFrame, name: str, file: Path) -> pl.DataFrame:
    """Return labels of one file as LABELS.

    Raises:
        ValueError: a column is of a type that no cast makes right, or a row has no subject or time.
    """
    kind = table["boolean_value"].dtype
    if kind != pl.Boolean:
        raise ValueError(f"{file}: column boolean_value is {kind}; expected true and false; convert it")
    keys: list[pl.Expr] = []
    for column, target in (("subject_id", "subject_id"), ("prediction_time", "time")):
        held = table[column]
        if not isinstance(held.dtype, KINDS[target]):
            raise ValueError(f"{file}: column {column} is {held.dtype}; expected {EVENTS[target]}; convert it")
        if held.null_count():
            raise ValueError(f"{file}: column {column} has {held.null_count()} rows without a value; leave them out")
        keys.append(cast(column, held.dtype, EVENTS[target]))
    return table.select(
        *keys,
        pl.lit(name).alias("outcome"),
        pl.lit(0, dtype=pl.Int32).alias("horizon_days"),
        pl.col("boolean_value"),
        pl.lit(None, dtype=pl.Float32).alias("time_to_event_days"),
        pl.col("boolean_value").fill_null(value=False).alias("event"),
    ).cast(dict(LABELS))  # pyright: ignore[reportArgumentType]


def of_subjects(path: Path, registry: Registry, subjects: pl.Series) -> pl.DataFrame:
    """Return the labels of some subjects, in the order of LABELS."""
    place = {name: i for i, name in enumerate(registry.names)}
    order = pl.col("outcome").replace_strict(place, return_dtype=pl.Int32)
    kept = read(path).filter(pl.col("subject_id").is_in(subjects.to_list()))
    return kept.sort("subject_id", "prediction_time", order, "horizon_days")


def attrition(labels: pl.DataFrame, registry: Registry) -> pl.DataFrame:
    """Return how many patients and samples of each outcome there are, as ATTRITION."""
    rows: list[tuple[str, str, int, int]] = []
    for name in registry.names:
        held = labels.filter(pl.col("outcome") == name)
        rows.append(("kept", name, held["subject_id"].n_unique(), len(held)))
    return pl.DataFrame(rows, schema=ATTRITION, orient="row")


def to_meds(labels: pl.DataFrame, folder: Path) -> list[Path]:
    """Write MEDS 0.4 label files, OUTCOME/HORIZON.parquet, sorted by subject and time.

    MEDS 0.4 refuses null labels and other columns, so censored samples go to OUTCOME/HORIZON.censored.csv.
    """
    written: list[Path] = []
    for (outcome, horizon), rows in sorted(labels.partition_by("outcome", "horizon_days", as_dict=True).items()):
        home = folder / str(outcome)
        home.mkdir(parents=True, exist_ok=True)
        ordered = rows.sort("subject_id", "prediction_time").select(COLUMNS)
        path = home / f"{horizon}.parquet"
        write(ordered.filter(pl.col("boolean_value").is_not_null()), path)
        censored = ordered.filter(pl.col("boolean_value").is_null()).drop("boolean_value")
        if len(censored):
            censored.write_csv(home / f"{horizon}.censored.csv")
        written.append(path)
    return written
