"""What the rows of a table give: statics and births once a subject, visits, and events row by row."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import IntEnum

import polars as pl

from ehr.events import BIRTH, DEATH
from ehr.sources import rows
from ehr.sources.parts import Part
from ehr.sources.rows import Item, Time
from ehr.sources.sheets import number
from ehr.sources.table import subjects
from ehr.sources.table.mapping import FIELD, MICROSECONDS, Birth, Event, Rows, Table, When
from ehr.sources.table.times import SUBJECT, time_of

TIME, LATE = "#time", "#late"
BAND = r"(\d+(?:\.\d+)?)\s*(?:-|to)\s*(\d+(?:\.\d+)?)"


class Stage(IntEnum):
    """Order of events of one moment: a visit's start before what happens in it, its end after, death last."""

    STATIC = 0
    START = 1
    EVENT = 2
    END = 3
    DEATH = 4


def chosen(taken: Rows) -> pl.Expr:
    """Tell whether a row is one to take."""
    wanted = [pl.col(column).is_in(list(cells)).fill_null(value=False) for column, cells in taken.where.items()]
    barred = [~pl.col(column).is_in(list(cells)).fill_null(value=False) for column, cells in taken.unless.items()]
    return pl.all_horizontal(pl.lit(value=True), *wanted, *barred)


def known(cell: pl.Expr, missing: Iterable[str]) -> pl.Expr:
    """Return a cell, null where it is a sign of missing."""
    signs = list(missing)
    return pl.when(~cell.is_in(signs)).then(cell) if signs else cell


def renamed(cell: pl.Expr, values: Mapping[str, str | None]) -> pl.Expr:
    """Return a cell by the name that the map gives it; others stay as they are."""
    return cell.replace(list(values), list(values.values())) if values else cell


def filled(template: str, cells: Mapping[str, pl.Expr]) -> pl.Expr:
    """Return a code with cells in the places of {names}; null where one of them is empty."""
    pieces = [
        cells[piece] if i % 2 else pl.lit(piece) for i, piece in enumerate(FIELD.split(template)) if i % 2 or piece
    ]
    return pl.concat_str(pieces)


def anchors(table: Table) -> dict[str, Time]:
    """Return what times of events can count from."""
    found = {"time": Time(pl.col(TIME), rows.NO_REASON)}
    if table.by == "stay":
        found["stay"] = Time(pl.col(subjects.STAY), rows.NO_REASON)
    if table.visit and table.visit.end:
        cells = {name: pl.col(name) for name in table.visit.end.columns()}
        found["end"] = time_of(table.visit.end, cells, found)
    return found


def moment_of(when: When | None, table: Table, missing: Iterable[str], *, optional: bool = False) -> Time:
    """Return the time of an event: its own, or the row's."""
    if when is None:
        return Time(pl.col(TIME), rows.NO_REASON)
    cells = {name: known(pl.col(name), missing) for name in when.columns()}
    return time_of(when, cells, anchors(table), optional=optional)


def items(event: Event, table: Table, *, static: bool) -> Iterator[Item]:
    """Yield the events of a row that one entry of the map describes."""
    signs = event.rows.missing
    for over in event.over or (None,):
        cells = {
            name: renamed(known(pl.col(name), signs), event.values)
            for name in FIELD.findall(event.code)
            if name not in {"cell", "column"} or not event.over
        }
        raw = {
            name: known(pl.col(over if name == "cell" and over else name), signs)
            for name in (event.value, event.text)
            if name
        }
        if over is not None:
            cells |= {"cell": renamed(known(pl.col(over), signs), event.values), "column": pl.lit(over)}
        code = pl.when(chosen(event.rows)).then(filled(event.code, cells))
        if over is not None and "{cell}" in event.code:
            code = pl.when(cells["cell"].is_not_null()).then(code)
        yield measured(
            event, code, raw, None if static else moment_of(event.time, table, signs, optional=event.time is not None)
        )


def measured(event: Event, code: pl.Expr, raw: Mapping[str, pl.Expr], time: Time | None) -> Item:
    """Return an event with its number and its text; without both, where the map names one, there is no event."""
    if not raw:
        return Item(code, time)
    given = pl.when(pl.any_horizontal(cell.is_not_null() for cell in raw.values())).then(code)
    text = raw[event.text] if event.text else None
    if event.value is None:
        return Item(given, time, text=text)
    parsed = number(raw[event.value])
    if event.text == event.value:
        # One column of both: text is what is no number.
        return Item(given, time, parsed, pl.when(parsed.is_null()).then(text))
    return Item(given, time, parsed, text, rows.bad_number(raw[event.value], parsed, event.value))


def birth_of(birth: Birth, table: Table) -> Item:
    """Return the birth: a date, or so many years before the row's time."""
    chosen_rows = chosen(birth.rows)
    if birth.date:
        when = moment_of(birth.date, table, birth.rows.missing, optional=True)
        return Item(pl.when(chosen_rows).then(pl.lit(BIRTH)), when)
    assert birth.age is not None, "the map was checked"
    cell = renamed(known(pl.col(birth.age), birth.rows.missing), birth.values)
    low, high = (cell.str.extract(BAND, i).cast(pl.Float64, strict=False) for i in (1, 2))
    age = pl.coalesce(number(cell), (low + high) / 2)
    sound = pl.when(age.is_between(0, 150 * MICROSECONDS["years"] / MICROSECONDS[birth.unit])).then(age)
    before = pl.duration(microseconds=(sound * MICROSECONDS[birth.unit]).round().cast(pl.Int64))
    wrong = pl.when(cell.is_not_null() & sound.is_null()).then(pl.lit(f"{birth.age}: not an age in {birth.unit}"))
    return Item(pl.when(chosen_rows & cell.is_not_null()).then(pl.lit(BIRTH)), Time(pl.col(TIME) - before, wrong))


def once(frames: Sequence[pl.LazyFrame], item: Item) -> pl.LazyFrame:
    """Return the rows that tell a fact of a subject first, one a subject."""
    tells = pl.concat(frames, how="diagonal").filter(item.code.is_not_null() & pl.col(SUBJECT).is_not_null())
    return tells.sort(TIME, nulls_last=True, maintain_order=True).unique(SUBJECT, keep="first", maintain_order=True)


def parts(table: Table, laid: Sequence[tuple[str, pl.LazyFrame]]) -> list[tuple[Stage, Part]]:
    """Return the parts that a table gives."""
    return [*facts(table, laid), *streams(table, laid)]


def facts(table: Table, laid: Sequence[tuple[str, pl.LazyFrame]]) -> Iterator[tuple[Stage, Part]]:
    """Yield statics and births: the first that is told of a subject, over all files of the table."""
    told = [item for event in table.static for item in items(event, table, static=True)]
    told += [birth_of(table.birth, table)] if table.birth else []
    name = laid[0][0] if len(laid) == 1 else ", ".join(table.files)
    reject = pl.coalesce(subjects.WHY, LATE) if table.birth and table.birth.age else pl.col(subjects.WHY)
    for item in told:
        frame = once([one for _, one in laid], item)
        yield Stage.STATIC, Part(name, rows.events(frame, subjects.number(), [item], reject=reject, report=False))


def streams(table: Table, laid: Sequence[tuple[str, pl.LazyFrame]]) -> Iterator[tuple[Stage, Part]]:
    """Yield what each row gives, stage by stage; the first stage lists the rows that cannot be used."""
    staged = by_stage(table)
    # A table of statics only gives nothing row by row, yet its unusable rows are listed.
    stages = staged or {Stage.STATIC: [Item(pl.lit(None, pl.String), None)]}
    reject = pl.coalesce(subjects.WHY, LATE)
    for i, (stage, given) in enumerate(stages.items()):
        for name, frame in laid:
            events = rows.events(frame, subjects.number(), given, reject=reject, report=i == 0)
            yield stage, Part(name, events)


def by_stage(table: Table) -> dict[Stage, list[Item]]:
    """Return the events of a row by stage."""
    staged: dict[Stage, list[Item]] = {}
    for event in table.events:
        stage = {BIRTH: Stage.STATIC, DEATH: Stage.DEATH}.get(event.code, Stage.EVENT)
        staged.setdefault(stage, []).extend(items(event, table, static=False))
    if table.visit:
        cells = {name: renamed(pl.col(name), table.visit.values) for name in FIELD.findall(table.visit.type)}
        code = filled(f"VISIT//{table.visit.type}//", cells)
        start = moment_of(table.visit.start, table, ())
        staged[Stage.START] = [Item(code + "START", start)]
        if table.visit.end:
            staged[Stage.END] = [Item(code + "END", moment_of(table.visit.end, table, (), optional=True))]
    return dict(sorted(staged.items()))
