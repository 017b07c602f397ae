"""YAML to a column map, with every key checked."""

from collections.abc import Mapping
from pathlib import Path

from ehr.sources.table.keys import Node, load, optional
from ehr.sources.table.mapping import (
    FIELD,
    MICROSECONDS,
    NO_VALUES,
    NO_WORDS,
    Birth,
    ColumnMap,
    Event,
    Rows,
    Stays,
    Table,
    Visit,
    Words,
)
from ehr.sources.table.moments import check_times, refuse_origin, when_of


def read(path: Path) -> ColumnMap:
    """Read a column map.

    Raises:
        ValueError: a key is unknown, missing or of the wrong kind; the first one is named.
    """
    top = load(path).mapping(("description", "missing", "separator", "stays", "tables"))
    missing = optional(top, "missing", Node.words, ())
    separator = optional(top, "separator", one_character, ",")
    stays = stays_of(top["stays"], missing, separator) if "stays" in top else None
    if "tables" not in top:
        raise ValueError(f"{path}: no key tables; expected at least one table; add it")
    named = top["tables"].children("a table by name")
    tables = tuple(table_of(name, node, missing, separator, stays is not None) for name, node in named.items())
    return ColumnMap(tables=tables, stays=stays)


def one_character(node: Node) -> str:
    """Return a separator: one character, or the words tab and semicolon."""
    word = {"tab": "\t", "semicolon": ";", "comma": ",", "pipe": "|"}.get(str(node.value), node.value)
    if not isinstance(word, str) or len(word) != 1 or not word.isascii():
        node.fail("one character, or comma, semicolon, tab, pipe")
    return word


def stays_of(node: Node, missing: tuple[str, ...], separator: str) -> Stays:
    """Return the stays."""
    keys = node.mapping(("files", "separator", "missing", "where", "unless", "key", "subject", "time"))
    node.require(keys, "files", "key", "subject", "time")
    subject = keys["subject"].text("the column of the subject")
    table = Table(
        name="stays",
        files=keys["files"].texts("a file name or pattern, or a list of them"),
        separator=optional(keys, "separator", one_character, separator),
        subject=subject,
        rows=rows_of(keys, missing),
        time=when_of(keys["time"]),
    )
    refuse_origin(keys["time"], table.time, ("stay", "time", "end"))
    return Stays(table=table, key=keys["key"].text("the column that other tables name a stay by"))


TABLE_KEYS = (
    "files", "separator", "missing", "where", "unless", "subject", "stay", "time", "visit", "birth", "static", "events",
)  # fmt: skip


def table_of(name: str, node: Node, missing: tuple[str, ...], separator: str, stays: bool) -> Table:  # noqa: FBT001
    """Return one table."""
    keys = node.mapping(TABLE_KEYS)
    node.require(keys, "files")
    subject, by = subject_of(node, keys, stays)
    rows = rows_of(keys, missing)
    table = Table(
        name=name,
        files=keys["files"].texts("a file name or pattern, or a list of them"),
        separator=optional(keys, "separator", one_character, separator),
        subject=subject,
        by=by,
        rows=rows,
        time=optional(keys, "time", when_of, None),
        visit=optional(keys, "visit", visit_of, None),
        birth=birth_of(keys["birth"], rows.missing) if "birth" in keys else None,
        static=events_of(keys["static"], rows.missing, static=True) if "static" in keys else (),
        events=events_of(keys["events"], rows.missing, static=False) if "events" in keys else (),
    )
    if not (table.visit or table.birth or table.static or table.events):
        raise ValueError(f"{node.file}: {node.path}: gives nothing; expected visit, birth, static or events; add one")
    check_times(node, keys, table)
    return table


def subject_of(node: Node, keys: Mapping[str, Node], stays: bool) -> tuple[str | None, str]:  # noqa: FBT001
    """Return the column that tells the subject, and how it does."""
    if ("subject" in keys) == ("stay" in keys):
        raise ValueError(f"{node.file}: {node.path}: expected either subject or stay; give one of them")
    if "stay" in keys:
        if not stays:
            raise ValueError(f"{node.file}: {keys['stay'].path}: no key stays at the top; expected it; add it")
        return keys["stay"].text("the column that names the stay"), "stay"
    if isinstance(keys["subject"].value, Mapping):
        column = keys["subject"].mapping(("column",))
        return column["column"].text("a column"), "column"
    word = keys["subject"].text("a column, row, file, or {column: NAME}")
    return (None, word) if word in {"row", "file"} else (word, "column")


def rows_of(keys: Mapping[str, Node], missing: tuple[str, ...]) -> Rows:
    """Return which rows to take; signs of missing add to those from above."""

    def cells(node: Node) -> Words:
        return {column: child.words() for column, child in node.children("COLUMN: VALUE or a list of values").items()}

    own = optional(keys, "missing", Node.words, ())
    return Rows(
        where=optional(keys, "where", cells, NO_WORDS),
        unless=optional(keys, "unless", cells, NO_WORDS),
        missing=tuple(dict.fromkeys((*missing, *own))),
    )


def values_of(node: Node) -> Mapping[str, str | None]:
    """Return what cells are to be called; nothing leaves a cell out."""
    children = node.children("CELL: NAME, one a line")
    return {cell: None if child.value is None else child.word("a name, or nothing") for cell, child in children.items()}


def visit_of(node: Node) -> Visit:
    """Return a visit."""
    keys = node.mapping(("type", "values", "start", "end"))
    node.require(keys, "type")
    kind = keys["type"].text("a type such as INPATIENT, OUTPATIENT or EMERGENCY")
    template(keys["type"], kind, ())
    return Visit(
        type=kind,
        start=optional(keys, "start", when_of, None),
        end=optional(keys, "end", when_of, None),
        values=optional(keys, "values", values_of, NO_VALUES),
    )


def birth_of(node: Node, missing: tuple[str, ...]) -> Birth:
    """Return a birth."""
    keys = node.mapping(("date", "age", "unit", "where", "unless", "missing", "values"))
    if ("date" in keys) == ("age" in keys):
        node.fail("either date or age")
    return Birth(
        date=optional(keys, "date", when_of, None),
        age=optional(keys, "age", Node.text, None),
        unit=optional(keys, "unit", lambda found: found.choice(tuple(MICROSECONDS)), "years"),
        rows=rows_of(keys, missing),
        values=optional(keys, "values", values_of, NO_VALUES),
    )


def events_of(node: Node, missing: tuple[str, ...], *, static: bool) -> tuple[Event, ...]:
    """Return events, or static facts, which have no time."""
    allowed = (
        "code",
        "columns",
        "value",
        "text",
        *(() if static else ("time",)),
        "where",
        "unless",
        "missing",
        "values",
    )
    found: list[Event] = []
    for item in node.items("a list of events, each with a code"):
        keys = item.mapping(allowed)
        item.require(keys, "code")
        event = Event(
            path=item.path,
            code=keys["code"].text("a code such as LAB//{column}"),
            over=optional(keys, "columns", Node.texts, ()),
            value=optional(keys, "value", Node.text, None),
            text=optional(keys, "text", Node.text, None),
            time=optional(keys, "time", when_of, None),
            rows=rows_of(keys, missing),
            values=optional(keys, "values", values_of, NO_VALUES),
        )
        template(keys["code"], event.code, event.over)
        if "cell" in {event.value, event.text} and not event.over:
            item.fail("columns, of which cell is the value")
        found.append(event)
    return tuple(found)


def template(node: Node, code: str, over: tuple[str, ...]) -> None:
    """Refuse a code whose braces do not fit, or that speaks of columns which are not there."""
    fields = FIELD.findall(code)
    if any(not field for field in fields) or "{" in FIELD.sub("", code) or "}" in FIELD.sub("", code):
        node.fail("a name of a column between each { and }")
    if not over and {"column", "cell"} & set(fields):
        node.fail("{column} and {cell} only beside the key columns; write the name of a column")
    if over and not {"column", "cell"} & set(fields):
        node.fail("{column} or {cell} in a code for several columns")
