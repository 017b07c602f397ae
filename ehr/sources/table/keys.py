"""Checked access to a parsed YAML file: each error names file and key, what was got and what is expected."""

import datetime as dt
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple, NoReturn, TypeVar

from ehr import settings

T = TypeVar("T")


class Node(NamedTuple):
    """A value of the file, and where it stands."""

    value: object
    file: str
    path: str = ""

    def fail(self, expected: str) -> NoReturn:
        """Say what was got here and what is expected.

        Raises:
            ValueError: always.
        """
        place = f"{self.file}: {self.path}" if self.path else self.file
        raise ValueError(f"{place}: got {kind_of(self.value)}; expected {expected}")

    def mapping(self, known: Iterable[str]) -> dict[str, "Node"]:
        """Return the children by key.

        Args:
            known: keys that may stand here.
        """
        names = tuple(known)
        children = self.children(f"a mapping with {', '.join(names)}")
        for key, child in children.items():
            if key not in names:
                near = get_close_matches(key, names, n=1)
                hint = f"did you mean {near[0]}?" if near else "take it away"
                raise ValueError(f"{self.file}: {child.path}: unknown key; expected {', '.join(names)}; {hint}")
        return children

    def require(self, keys: Mapping[str, "Node"], *needed: str) -> None:
        """Refuse a mapping without one of these keys."""
        for key in needed:
            if key not in keys:
                place = f"{self.file}: {self.path}" if self.path else self.file
                raise ValueError(f"{place}: no key {key}; found {', '.join(keys)}; add it")

    def children(self, expected: str) -> dict[str, "Node"]:
        """Return the children of a mapping with free keys."""
        if not isinstance(self.value, Mapping) or not self.value:
            self.fail(expected)
        prefix = f"{self.path}." if self.path else ""
        return {word(key): Node(child, self.file, prefix + line_of(word(key))) for key, child in self.value.items()}

    def items(self, expected: str) -> list["Node"]:
        """Return the elements of a list."""
        if not isinstance(self.value, list) or not self.value:
            self.fail(expected)
        return [Node(child, self.file, f"{self.path}[{i}]") for i, child in enumerate(self.value, start=1)]

    def text(self, expected: str = "text") -> str:
        """Return text that is not empty."""
        if not isinstance(self.value, str) or not self.value.strip():
            self.fail(expected)
        return self.value.strip()

    def texts(self, expected: str = "a name, or a list of names") -> tuple[str, ...]:
        """Return one text or several."""
        if isinstance(self.value, list):
            return tuple(item.text(expected) for item in self.items(expected))
        return (self.text(expected),)

    def words(self, expected: str = "a value, or a list of values") -> tuple[str, ...]:
        """Return one cell value or several, as they are written in a table."""
        if isinstance(self.value, list):
            return tuple(item.word(expected) for item in self.items(expected))
        return (self.word(expected),)

    def word(self, expected: str) -> str:
        """Return one cell value, as it is written in a table."""
        # YAML reads a bare No, Yes, on or off as true and false: what was written cannot be told any more.
        if isinstance(self.value, bool):
            self.fail(f"{expected}; put quotes around Yes, No, true, false, on and off")
        if not isinstance(self.value, (str, int, float)):
            self.fail(expected)
        return word(self.value)

    def number(self, expected: str) -> float:
        """Return a finite number above 0."""
        if isinstance(self.value, bool) or not isinstance(self.value, (int, float)) or not 0 < self.value < 1e9:
            self.fail(expected)
        return float(self.value)

    def day(self, expected: str) -> dt.datetime:
        """Return a date or time."""
        if isinstance(self.value, dt.datetime):
            return self.value.astimezone(dt.UTC).replace(tzinfo=None) if self.value.tzinfo else self.value
        if isinstance(self.value, dt.date):
            return dt.datetime(self.value.year, self.value.month, self.value.day)  # noqa: DTZ001
        return self.fail(expected)

    def choice(self, options: tuple[str, ...]) -> str:
        """Return one of some words."""
        if self.value not in options:
            self.fail(", ".join(options[:-1]) + f" or {options[-1]}")
        return str(self.value)


def optional(children: Mapping[str, Node], key: str, take: Callable[[Node], T], default: T) -> T:
    """Return what `take` makes of a key, or the default where it is absent."""
    return take(children[key]) if key in children else default


def word(value: object) -> str:
    """Return a YAML scalar as a table would write it: whole numbers without .0."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def kind_of(value: object) -> str:
    """Return a short description of a value of the file."""
    if value is None:
        return "nothing"
    if isinstance(value, (list, Mapping)):
        return "a list" if isinstance(value, list) else "a mapping"
    return line_of(str(value)) or "empty text"


def line_of(text: str) -> str:
    """Return text for a message: one short line."""
    line = " ".join(text.split())
    return f"{line[:40]}..." if len(line) > 40 else line


def load(path: Path) -> Node:
    """Return a YAML file.

    Raises:
        ValueError: it cannot be read, or is no YAML.
    """
    return Node(settings.read(path, "a YAML file of columns"), str(path))
