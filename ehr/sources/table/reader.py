"""Opens plain tables by a column map: finds the files, lays out their cells, hands on parts of EVENTS."""

from pathlib import Path
from typing import NamedTuple

import polars as pl

from ehr.events import EVENTS, order
from ehr.sources import rows, sheets
from ehr.sources.parts import Part, Source
from ehr.sources.rows import Time
from ehr.sources.sheets import ROW, Sheet
from ehr.sources.table import give, subjects
from ehr.sources.table.give import LATE, TIME
from ehr.sources.table.mapping import ColumnMap, Table
from ehr.sources.table.parse import read
from ehr.sources.table.subjects import STAY
from ehr.sources.table.times import FILE, PLACE, SUBJECT, places, time_of

REMEDY = "mend the name there or in the file"


class Laid(NamedTuple):
    """One file: its cells as text, beside `#file`, `#row`, `#subject`, `#time` and why one of these is unknown."""

    name: str
    frame: pl.LazyFrame


def open(path: Path, columns: Path) -> Source:
    """Open plain tables.

    Args:
        path: a file, or the folder that the map's file names start from.
        columns: the column map, YAML (see docs/how-to/tables.md).

    Raises:
        ValueError: the map is wrong, a file or a column that it names is absent, a file is damaged.
    """
    plan = read(columns)
    anchors = stay_times(path, plan, columns)
    parts: list[tuple[give.Stage, Part]] = []
    persons: list[pl.LazyFrame] = []
    for table in plan.tables:
        laid = lay(path, table, columns, anchors)
        parts += give.parts(table, [(one.name, one.frame) for one in laid])
        persons += [one.frame for one in laid]
    parts.sort(key=lambda pair: pair[0])
    return Source("table", "1", tuple(part for _, part in parts), patients=subjects.patients(persons))


def scan(path: Path, columns: Path) -> pl.LazyFrame:
    """Return all events of plain tables in canonical order, lazy, without rows that cannot be used (see `open`)."""
    usable = [
        part.events.filter(pl.col("reject").is_null()).select(EVENTS.names()) for part in open(path, columns).parts
    ]
    return order(pl.concat(usable))


def stay_times(path: Path, plan: ColumnMap, columns: Path) -> pl.LazyFrame | None:
    """Return subject and beginning of each stay, by its key."""
    if plan.stays is None:
        return None
    key = plan.stays.key
    laid = lay(path, plan.stays.table, columns, None, extra=(key,))
    found = [one.frame.select(pl.col(key).alias("#key"), SUBJECT, pl.col(TIME).alias(STAY)) for one in laid]
    usable = pl.concat(found).filter(pl.all_horizontal(pl.all().is_not_null()))
    return usable.unique("#key", keep="first", maintain_order=True)


def lay(
    path: Path, table: Table, columns: Path, stays: pl.LazyFrame | None, *, extra: tuple[str, ...] = ()
) -> list[Laid]:
    """Return the files of a table with their subjects and times."""
    files = files_of(path, table, columns)
    if table.by == "row" and len(files) > 1:
        raise ValueError(f"{columns}: tables.{table.name}.subject: row, and {len(files)} files; expected one file")
    frames = [cells(file, label, table, columns, extra, i) for i, (file, label) in enumerate(files)]
    subjected = [subjects.attach(frame, table, file, stays) for frame, (file, _) in zip(frames, files, strict=True)]
    if table.time and table.time.order:
        placed = places(subjected, table.time.order)
        subjected = [one.join(placed, on=[FILE, ROW], how="left", maintain_order="left") for one in subjected]
    else:
        subjected = [one.with_columns(pl.lit(None, pl.Int64).alias(PLACE)) for one in subjected]
    return [Laid(label, timed(frame, table)) for frame, (_, label) in zip(subjected, files, strict=True)]


def timed(frame: pl.LazyFrame, table: Table) -> pl.LazyFrame:
    """Add the time of each row, and why it has none."""
    if table.time is None:
        return frame.with_columns(pl.lit(None, pl.Datetime("us")).alias(TIME), rows.NO_REASON.alias(LATE))
    anchors = {"stay": Time(pl.col(STAY), rows.NO_REASON)} if table.by == "stay" else {}
    when = time_of(table.time, {name: pl.col(name) for name in table.time.columns()}, anchors)
    return frame.with_columns(when.value.cast(pl.Datetime("us")).alias(TIME), when.reject.alias(LATE))


def cells(file: Path, label: str, table: Table, columns: Path, extra: tuple[str, ...], number: int) -> pl.LazyFrame:
    """Return the cells that the map names, as text without signs of missing, of the rows that it takes."""
    sheet: Sheet = sheets.read(file, label, separator=table.separator)
    wanted = tuple(dict.fromkeys((*table.columns(), *extra)))
    sheet.need(wanted, f"{columns} names it; {REMEDY}")
    laid = sheet.frame.select(ROW, *(sheets.text(name, sheet.kinds[name]).alias(name) for name in wanted))
    # A blank line says nothing, and so nothing is wrong with it.
    told = pl.any_horizontal(pl.col(name).is_not_null() for name in wanted) if wanted else pl.lit(value=True)
    taken = laid.filter(told, give.chosen(table.rows))
    blank = [give.known(pl.col(name), table.rows.missing).alias(name) for name in wanted]
    return taken.with_columns(*blank, pl.lit(number).alias(FILE))


def files_of(path: Path, table: Table, columns: Path) -> list[tuple[Path, str]]:
    """Return the files of a table, each with what to call it.

    Raises:
        ValueError: a name or pattern fits no file.
    """
    if path.is_file():
        if not any(path.match(pattern) for pattern in table.files):
            raise ValueError(f"{path}: {columns} expects {', '.join(table.files)} for {table.name}; pass their folder")
        return [(path, path.name)]
    if not path.is_dir():
        raise ValueError(f"{path}: no such file or folder; expected tables; mend the path")
    found: dict[Path, str] = {}
    for pattern in table.files:
        hits = matching(path, pattern, columns, table.name)
        if not hits:
            there = ", ".join(sorted(entry.name for entry in path.iterdir())[:8]) or "nothing"
            raise ValueError(f"{path}: no file {pattern} for {table.name} of {columns}; found {there}; mend the name")
        found |= {file: file.relative_to(path).as_posix() for file in hits}
    return list(found.items())


def matching(path: Path, pattern: str, columns: Path, name: str) -> list[Path]:
    """Return the files of a name or pattern, in a fixed order."""
    if Path(pattern).is_absolute() or ".." in Path(pattern).parts:
        raise ValueError(f"{columns}: tables.{name}.files: {pattern}; expected a name or pattern below the source")
    if not any(sign in pattern for sign in "*?["):
        return [path / pattern] if (path / pattern).exists() else []
    return sorted(file for file in path.glob(pattern) if file.is_file() and not file.name.startswith("."))
