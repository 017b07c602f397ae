"""Times of a column map: how they are written, and what they may count from."""

import datetime as dt
from collections.abc import Iterator, Mapping

from ehr.sources.table.keys import Node, optional
from ehr.sources.table.mapping import UNITS, Table, When

FROM = "a date (2000-01-01), stay, time, end, or a column of dates"
NEEDED = {
    "order": ("days_apart", "from"),
    "days_apart": ("order",),
    "offset": ("unit", "from"),
    "subtract": ("unit", "from"),
}


def when_of(node: Node) -> When:
    """Return a time."""
    if isinstance(node.value, str):
        return When(column=node.text())
    keys = node.mapping(("column", "format", "order", "days_apart", "from", "offset", "subtract", "unit"))
    if len({"offset", "subtract"} & set(keys)) == 2 or len({"column", "order", "from"} & set(keys)) == 0:
        node.fail("column, or order with from and days_apart, or offset with from and unit")
    if "column" in keys and len(keys) > len({"column", "format"} & set(keys)):
        node.fail("column with format at most; for an offset from it write from: COLUMN")
    for key, needed in NEEDED.items():
        if key in keys:
            node.require(keys, *needed)
    if "unit" in keys and not {"offset", "subtract"} & set(keys):
        keys["unit"].fail("offset or subtract beside it")
    origin = optional(keys, "from", origin_of, None)
    if "order" in keys and not isinstance(origin, dt.datetime):
        keys["from"].fail("a date, such as 2000-01-01, at which the first one is put")
    step = keys.get("offset") or keys.get("subtract")
    return When(
        column=optional(keys, "column", Node.text, None),
        format=optional(keys, "format", Node.text, None),
        order=optional(keys, "order", Node.texts, ()),
        days_apart=optional(keys, "days_apart", lambda found: found.number("a number of days above 0"), 0.0),
        origin=origin,
        offset=None if step is None else offset_of(step),
        backwards="subtract" in keys,
        unit=optional(keys, "unit", lambda found: found.choice(UNITS), "days"),
    )


def origin_of(node: Node) -> dt.datetime | str:
    """Return what a time counts from."""
    return node.text(FROM) if isinstance(node.value, str) else node.day(FROM)


def offset_of(node: Node) -> str | float:
    """Return a column, or a fixed number."""
    if isinstance(node.value, (int, float)) and not isinstance(node.value, bool):
        return float(node.value)
    return node.text("a column of numbers, or a number")


def check_times(node: Node, keys: Mapping[str, Node], table: Table) -> None:
    """Refuse what needs a time that is not there."""
    if table.time:
        refuse_origin(keys["time"], table.time, ("time", "end") if table.by == "stay" else ("stay", "time", "end"))
    for path, when in own_times(node, table):
        check_origin(node.file, path, when, table)
    if table.time is None:
        missing = [event.path for event in table.events if event.time is None]
        missing += [f"{node.path}.visit"] if table.visit and table.visit.start is None else []
        missing += [f"{node.path}.birth.age"] if table.birth and table.birth.age else []
        if missing:
            raise ValueError(
                f"{node.file}: {missing[0]}: no time; expected one here or in {node.path}; add the key time"
            )


def own_times(node: Node, table: Table) -> Iterator[tuple[str, When]]:
    """Yield the times beside that of the table, and where they stand."""
    yield from ((f"{event.path}.time", event.time) for event in table.events if event.time)
    if table.visit:
        ends = (("start", table.visit.start), ("end", table.visit.end))
        yield from ((f"{node.path}.visit.{name}", when) for name, when in ends if when)
    if table.birth and table.birth.date:
        yield f"{node.path}.birth.date", table.birth.date


def check_origin(file: str, path: str, when: When, table: Table) -> None:
    """Refuse an order, or a time that counts from what the table does not have."""
    if when.order:
        raise ValueError(f"{file}: {path}.order: expected in the time of the table only; move it there")
    if when.origin == "stay" and table.by != "stay":
        raise ValueError(f"{file}: {path}.from: got stay; expected a table with the key stay; add that key")
    if when.origin == "time" and table.time is None:
        raise ValueError(f"{file}: {path}.from: got time; expected a table with a time; add the key time")
    inside = ".visit." in path or ".birth." in path
    if when.origin == "end" and (inside or not (table.visit and table.visit.end)):
        raise ValueError(f"{file}: {path}.from: got end; expected an event of a table whose visit has an end")


def refuse_origin(node: Node, when: When | None, words: tuple[str, ...]) -> None:
    """Refuse a time that counts from what is not there yet."""
    if when and when.origin in words:
        raise ValueError(
            f"{node.file}: {node.path}.from: got {when.origin}, which is not known here; expected a date or column"
        )
