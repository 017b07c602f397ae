"""The registry of outcomes: read from YAML, checked key by key."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import yaml

from ehr import settings
from ehr.events import DEATH

INDEX_POINTS = ("visit_start", "visit_end", "day_end", "last_event")
EVERY = ("all", "first", "latest", "first_per_year")
CENSORS = ("last_event", "never")
LISTS = ("any_of", "exclude", "horizons_days")
SWITCHES = ("alive", "incident_only")
NUMBERS = ("gap_days", "min_history_days", "min_age", "max_age")
OPTIONAL = ("competing", "since", "until", "min_age", "max_age")
NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
DATE = re.compile(r"\d{4}-[^/]*")
# A century; no record is longer, and microseconds fit their 64 bits with room to spare.
LONGEST_DAYS = 36_525


@dataclass(frozen=True, kw_only=True)
class Index:
    """When a patient is predicted."""

    at: str = "visit_end"
    """visit_start, visit_end, day_end (the last event of each day, for records without encounters), last_event,
    a date YYYY-MM-DD, or a code pattern."""
    every: str = "all"
    """all of these times, the first, the latest, or the first of each calendar year."""
    visit_type: str = "*"
    """For visit_start and visit_end: the type in VISIT//type//START."""
    since: str | None = None
    """Only times at or after this date."""
    until: str | None = None
    """Only times before this date."""
    min_history_days: float = 0.0
    """Days between the first dated event (births apart) and the prediction time, at least."""
    min_age: float | None = None
    """Years; patients without a birth are left out where an age is asked for."""
    max_age: float | None = None
    """Years, exclusive."""
    alive: bool = True
    """Leave out prediction times at or after a death."""

    def __post_init__(self) -> None:
        """Check words and dates."""
        if self.every not in EVERY:
            raise ValueError(f"index.every is {self.every}; expected one of {', '.join(EVERY)}")
        for name in ("since", "until"):
            if getattr(self, name) is not None:
                microseconds(getattr(self, name), f"index.{name}")
        if is_date(self.at):
            microseconds(self.at, "index.at")
        elif self.at not in INDEX_POINTS and not is_code(self.at):
            points = ", ".join(INDEX_POINTS)
            raise ValueError(f"index.at is {self.at}; expected {points}, a date YYYY-MM-DD or a code pattern")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One outcome: its event, its prediction times, its window and who is left out."""

    name: str
    """Lower-case letters, digits and underscores."""
    any_of: tuple[str, ...]
    """Code patterns; any of them is the event."""
    index: Index = field(default_factory=Index)
    """When a patient is predicted."""
    gap_days: float = 0.0
    """Days after the prediction time that do not count: the window is (index + gap, index + gap + horizon]."""
    horizons_days: tuple[int, ...] = (365,)
    """Lengths of the window, ascending; 0 alone means labels made elsewhere."""
    incident_only: bool = True
    """Leave out patients with the event before the window begins."""
    exclude: tuple[str, ...] = ()
    """Code patterns; patients with any of them before the prediction time are left out."""
    competing: str | None = DEATH
    """A code after which the event cannot happen: no event by then is a negative."""
    censor: str = "last_event"
    """Where follow-up ends: last_event, a date, a code pattern (the first after the prediction time), or never, for
    records that are known to be complete; without event by then the label is null."""

    def __post_init__(self) -> None:
        """Check names, windows and dates."""
        if not NAME.fullmatch(self.name):
            raise ValueError(f"outcome name {self.name!r}: expected lower-case letters, digits and underscores")
        steps = [b > a for a, b in zip(self.horizons_days, self.horizons_days[1:], strict=False)]
        least, most = (1 if self.any_of else 0), LONGEST_DAYS
        if (
            not self.horizons_days
            or not all(steps)
            or not least <= self.horizons_days[0] <= self.horizons_days[-1] <= most
        ):
            raise ValueError(
                f"{self.name}.horizons_days is {list(self.horizons_days)}; expected ascending days from 1 to {most:,}"
            )
        if not 0 <= self.gap_days <= LONGEST_DAYS:
            raise ValueError(f"{self.name}.gap_days is {self.gap_days}; expected 0 to {LONGEST_DAYS:,}")
        if is_date(self.censor):
            microseconds(self.censor, f"{self.name}.censor")
        elif self.censor not in CENSORS and not is_code(self.censor):
            words = ", ".join(CENSORS)
            raise ValueError(f"{self.name}.censor is {self.censor}; expected {words}, a date or a code pattern")


class Registry(NamedTuple):
    """Outcomes in the order of the model's axis K."""

    outcomes: tuple[Outcome, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names in order."""
        return tuple(outcome.name for outcome in self.outcomes)

    @property
    def horizons(self) -> npt.NDArray[np.int64]:
        """Days by outcome and horizon, i64 [K, H]; -1 where an outcome has fewer than H."""
        width = max((len(outcome.horizons_days) for outcome in self.outcomes), default=0)
        table = np.full((len(self.outcomes), width), -1, dtype=np.int64)
        for row, outcome in enumerate(self.outcomes):
            table[row, : len(outcome.horizons_days)] = outcome.horizons_days
        return table


def is_date(text: str) -> bool:
    """Tell whether a word stands for a date; a code may begin with digits too, but has a system."""
    return DATE.fullmatch(text) is not None


def is_code(text: str) -> bool:
    """Tell whether a word can stand for codes: it names a system, or is in capitals like MEDS_DEATH and ADMIT*."""
    return "//" in text or text.isupper()


def microseconds(text: str, name: str) -> int:
    """Return a date's midnight as microseconds since 1970.

    Raises:
        ValueError: the text is not a date, or has a zone.
    """
    try:
        day = datetime.fromisoformat(text)
    except ValueError:
        day = None
    if day is None or day.tzinfo is not None:
        raise ValueError(f"{name} is {text}; expected a date such as 2021-01-01")
    return int((day - datetime(1970, 1, 1)).total_seconds()) * 1_000_000  # noqa: DTZ001  times carry no zone


def load(path: Path) -> Registry:
    """Read outcomes from YAML.

    Raises:
        ValueError: the file is missing, is not YAML, or holds a key, name or value that is not known.
    """
    content = settings.read(path, "outcomes in YAML (see docs/how-to/outcomes.md)")
    outcomes = content.get("outcomes") if isinstance(content, dict) else None
    if not isinstance(outcomes, dict) or not outcomes or set(content) != {"outcomes"}:
        raise ValueError(f"{path}: expected one key `outcomes` with at least one outcome below it")
    try:
        return Registry(tuple(parse(str(name), entry) for name, entry in outcomes.items()))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from None


def parse(name: str, entry: object) -> Outcome:
    """Return one outcome from its YAML mapping."""
    found = checked(entry, {*Outcome.__dataclass_fields__, "event"} - {"name", "any_of"}, name)
    event = checked(found.pop("event", {}), {"any_of"}, f"{name}.event")
    patterns = converted(event.get("any_of"), "any_of", f"{name}.event.any_of")
    if not patterns and found.get("horizons_days") != [0]:
        raise ValueError(f"{name}.event.any_of: expected a list of code patterns")
    if "index" in found:
        entries = checked(found["index"], set(Index.__dataclass_fields__), f"{name}.index")
        point = {k: converted(v, k, f"{name}.index.{k}") for k, v in entries.items()}
        try:
            found["index"] = Index(**point)
        except ValueError as error:
            raise ValueError(f"{name}.{error}") from None
    others = {k: converted(v, k, f"{name}.{k}") for k, v in found.items() if k != "index"}
    return Outcome(name=name, any_of=patterns, **found | others)


def checked(entry: object, keys: set[str], name: str) -> dict[str, Any]:
    """Return a mapping whose keys are all known."""
    if not isinstance(entry, Mapping):
        raise ValueError(f"{name}: expected keys and values, one a line")
    unknown = sorted(str(key) for key in entry if key not in keys)
    if unknown:
        raise ValueError(f"{name}: unknown key {unknown[0]}; expected one of {', '.join(sorted(keys))}")
    return {str(key): value for key, value in entry.items()}


def converted(value: object, key: str, name: str) -> Any:  # noqa: ANN401  what the key holds
    """Return what YAML holds as what a key holds: numbers, yes or no, lists as tuples, dates as text.

    Raises:
        ValueError: it is of another kind.
    """
    if key in LISTS:
        kind = int if key == "horizons_days" else str
        if isinstance(value, list) and all(type(item) is kind for item in value):
            return tuple(value)
        raise ValueError(f"{name} is {value}; expected a list of {'whole days' if kind is int else 'code patterns'}")
    if key in SWITCHES:
        if isinstance(value, bool):
            return value
        raise ValueError(f"{name} is {value}; expected true or false")
    if key in NUMBERS:
        if (value is None and key in OPTIONAL) or (isinstance(value, int | float) and not isinstance(value, bool)):
            return value
        raise ValueError(f"{name} is {value}; expected a number")
    if value is None and key in OPTIONAL:
        return None
    if isinstance(value, str | date):
        return value if isinstance(value, str) else value.isoformat()
    raise ValueError(f"{name} is {value}; expected a word, a date or a code pattern")


def dump(registry: Registry) -> str:
    """Return the registry as YAML with every setting written out; `load` reads it back."""
    entries: dict[str, Any] = {}
    for outcome in registry.outcomes:
        settings = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(outcome).items()}
        kept = {key: value for key, value in settings.items() if key not in {"name", "any_of"}}
        entries[outcome.name] = {"event": {"any_of": list(outcome.any_of)}, **kept}
    return yaml.safe_dump({"outcomes": entries}, sort_keys=False, allow_unicode=True)
