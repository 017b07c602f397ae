"""How much of what is wrong is borne: read from YAML, carried by the cohort and the release."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, NamedTuple, Self

from ehr import settings
from ehr.quality.plausibility import Range

# Settings that are no bound of a gate of their own.
SETTINGS = ("min_count", "unit_drift", "longest_tokens", "now", "ranges")
# One laboratory that changes its unit is one code: `min_count` does not excuse it.
EXACT = ("drifted_codes",)
EXPONENT = re.compile(r"\d+(\.\d+)?[eE][-+]?\d+")
DAY_MICROSECONDS = 86_400_000_000
# What else may help, by gate.
HINTS = {
    "future": "; dates shifted for privacy need a later `now` there",
    "unknown_codes": "; few patients know few codes: a small cohort is prepared with --min-patients 1",
}
# MIMIC's dates are shifted to the years 2100 to 2210.
SHIFTED = {"mimic": "2300-01-01"}


class Measure(NamedTuple):
    """What a gate found: how many of how many, and where it begins (file:row, shard or code; never a value)."""

    found: int
    of: int
    where: str = ""

    @property
    def share(self) -> float:
        """The share found, 0 of nothing."""
        return self.found / max(self.of, 1)


class Violation(NamedTuple):
    """A gate that does not hold: the expectation, how many were found, their share, what is borne, where it begins."""

    expectation: str
    found: int
    share: float
    bound: float
    where: str


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """Largest shares, 0 to 1, unless said otherwise; above one of them the verb stops."""

    null_subject: float = 0.001
    """Rows without a subject; left out and listed."""
    negative_subject: float = 0.001
    """Rows with a subject id below 0; left out and listed."""
    null_code: float = 0.001
    """Rows without a code; left out and listed."""
    not_finite: float = 0.001
    """Rows whose value is NaN or infinite; left out and listed."""
    unreadable: float = 0.01
    """Rows that the reader of the format could not use; left out and listed."""
    future: float = 0.001
    """Rows later than `now`; left out and listed."""
    before_birth: float = 0.05
    """Rows earlier than the day of their patient's birth; left out and listed. Above the others, since dates of birth
    are often rounded or shifted, and vaccinations then come first: sound sets have 1 to 2 % of such rows."""
    after_death: float = 0.02
    """Rows later than the day after their patient's death; left out and listed."""
    out_of_order: float = 0.0
    """Rows that a reader handed on out of order of subject and time; --repair sorts them."""
    implausible: float = 0.02
    """Rows whose value lies outside the plausible range of their code; kept."""
    duplicates: float = 0.2
    """Rows equal to another in every column; kept, and a visit takes each token once."""
    no_birth: float = 1.0
    """Patients without a birth; their age counts from their first event."""
    births_twice: float = 0.01
    """Patients with births on two days; the first in order counts."""
    deaths_twice: float = 0.01
    """Patients with deaths on two days; the first in order counts."""
    unknown_codes: float = 0.05
    """Events whose code has no token, nor an ancestor with one."""
    empty_patients: float = 0.5
    """Patients without a token."""
    long_patients: float = 0.01
    """Patients with more tokens than `longest_tokens`."""
    visits_fall: float = 0.0
    """Tokens whose visit comes before the visit of the token ahead of them."""
    times_fall: float = 0.0
    """Tokens whose time comes before the time of the token ahead of them."""
    label_before_input: float = 0.05
    """Labelled samples before their patient's first event."""
    event_before_prediction: float = 0.0
    """Labels whose event does not lie after the last input (the prediction time)."""
    drifted_codes: float = 0.05
    """Codes whose values moved as units do (see `unit_drift`), of those with enough values to compare."""
    null_probability: float = 0.0
    """Predictions without a probability."""
    outside_unit_interval: float = 0.0
    """Predictions below 0 or above 1."""
    repeated: float = 0.0
    """Predictions of a patient, time, outcome and horizon that stand there already."""
    falls_with_horizon: float = 0.0
    """Predictions lower than those of the same outcome at a shorter horizon."""
    min_count: int = 5
    """Fewer finds than this stop nothing where the bound is above 0, so that a small file is not refused."""
    unit_drift: float = 1.8
    """A code drifts where its median lies outside the training values' middle 80 % and is this many times larger or
    smaller than their median (kg to lb is 2.2, Cel to F 2.7, mg/dL to mmol/L 2.5 to 88)."""
    longest_tokens: int = 200_000
    """A patient with more tokens is rather several patients under one id."""
    now: str | None = None
    """The day that counts as today, YYYY-MM-DD; rows after its end lie in the future. None takes the clock's.
    Dates that were shifted for privacy need a later one."""
    ranges: Mapping[str, Range] = field(default_factory=dict[str, Range])
    """Plausible ranges by code, [low, high], beside and over the built-in ones."""

    def __post_init__(self) -> None:
        """Check ranges."""
        for name in self.bounds():
            check_number(name, getattr(self, name), most=1)
        for name in ("min_count", "unit_drift", "longest_tokens"):
            check_number(name, getattr(self, name), most=math.inf)
        if self.unit_drift < 1:
            raise ValueError(f"unit_drift is {self.unit_drift}; expected a ratio of at least 1")
        if self.now is not None:
            parse_day(self.now)

    @classmethod
    def bounds(cls) -> list[str]:
        """Return the gates that have a bound."""
        return [item.name for item in fields(cls) if item.name not in SETTINGS]

    def bound(self, gate: str) -> float:
        """Return the largest share that a gate bears."""
        return float(getattr(self, gate))

    def allowed(self, gate: str, of: int) -> int:
        """Return how many finds of so many a gate bears."""
        share = self.bound(gate)
        few = self.min_count - 1 if share > 0 and gate not in EXACT else 0
        return max(math.floor(share * of + 1e-9), few)

    def end_of_now(self, format: str = "") -> int:
        """Return the end of the day that counts as today, microseconds since 1970.

        Args:
            format: of the source; some shift all dates.
        """
        stated = self.now or SHIFTED.get(format)
        day = parse_day(stated) if stated else datetime.now(UTC).date()
        return (day - date(1970, 1, 1)).days * DAY_MICROSECONDS + DAY_MICROSECONDS - 1

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read thresholds from YAML or JSON; what is not named keeps its default.

        Raises:
            ValueError: no such file, not YAML, an unknown key or a value out of range.
        """
        content = settings.read(path, "thresholds in YAML (see configs/quality.yaml)")
        return cls.parse({} if content is None else content, str(path))

    @classmethod
    def parse(cls, content: object, name: str) -> Self:
        """Return thresholds from a mapping (see `load`)."""
        known = [item.name for item in fields(cls)]
        if not isinstance(content, dict):
            raise ValueError(f"{name}: expected keys and numbers, one a line (see configs/quality.yaml)")
        values = {str(key): as_number(value) for key, value in content.items()}
        unknown = [key for key in values if key not in known]
        if unknown:
            raise ValueError(f"{name}: unknown key {unknown[0]}; expected one of {', '.join(known)}")
        try:
            if values.get("now") is not None:
                values["now"] = str(values["now"])
            values["ranges"] = parse_ranges(values.get("ranges") or {})
            return cls(**values)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None

    def content(self) -> dict[str, Any]:
        """Return the thresholds as plain types, as quality.json keeps them."""
        return {**asdict(self), "ranges": {code: list(bounds) for code, bounds in self.ranges.items()}}

    def save(self, path: Path) -> None:
        """Write JSON; equal thresholds give equal bytes."""
        path.write_text(json.dumps(self.content(), indent=1, sort_keys=True) + "\n", encoding="utf-8")


def as_number(value: Any) -> Any:  # noqa: ANN401  what YAML holds
    """Return text such as 1e-05, which is how JSON writes a small number and no number to YAML 1.1, as a number."""
    return float(value) if isinstance(value, str) and EXPONENT.fullmatch(value) else value


def check_number(name: str, value: object, *, most: float) -> None:
    """Refuse what is no number from 0 to `most`."""
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= most:
        return
    wanted = "a share from 0 to 1" if most == 1 else "a number of at least 0"
    raise ValueError(f"{name} is {value}; expected {wanted}")


def parse_day(text: str) -> date:
    """Return a day."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ValueError(f"now is {text}; expected a day, YYYY-MM-DD") from None


def parse_ranges(content: object) -> dict[str, Range]:
    """Return plausible ranges by code."""
    if not isinstance(content, Mapping):
        raise ValueError("ranges: expected codes and [low, high], one a line")
    found: dict[str, Range] = {}
    held: Mapping[Any, Any] = content
    for code, bounds in held.items():
        try:
            low, high = (float(bound) for bound in bounds)
        except (TypeError, ValueError):
            low, high = 0.0, 0.0
        if not low < high:
            raise ValueError(f"ranges: {code} is {bounds}; expected [low, high]")
        found[str(code)] = (low, high)
    return found


def hold(measures: Mapping[str, Measure], thresholds: Thresholds) -> list[Violation]:
    """Compare what was measured with what is borne, without Great Expectations.

    Args:
        measures: by gate, from `profile.measures`, `sequences` or `drift`.
        thresholds: what is borne.
    """
    return [
        Violation(gate, measure.found, measure.share, thresholds.bound(gate), measure.where)
        for gate, measure in measures.items()
        if measure.found > thresholds.allowed(gate, measure.of)
    ]


def message(violations: Sequence[Violation]) -> str:
    """Return violations as one line with the remedy: the first in full, the others by name."""
    first, *others = violations
    where = f", first at {first.where}" if first.where else ""
    hint = HINTS.get(first.expectation, "")
    more = f"; neither hold {', '.join(v.expectation for v in others)}" if others else ""
    return (
        f"gate {first.expectation}: {first.found:,} found, a share of {first.share:.2g} where {first.bound:.2g} is "
        f"borne{where}; mend the records or raise {first.expectation} in --quality FILE{hint}{more}"
    )
