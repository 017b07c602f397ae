"""Settings of rethinking on patients."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

Value = Literal["indicator", "scope", "reach"]
VALUES: tuple[str, ...] = get_args(Value)


@dataclass(frozen=True, kw_only=True)
class Contradictions:
    """What rules a future out, as code patterns."""

    female: tuple[str, ...] = (
        *("ICD10CM//O", "ICD10CM//Z33", "ICD10CM//Z34", "ICD10CM//C53", "ICD10CM//C54", "ICD10CM//C56"),
        *("ICD10CM//N70", "ICD10CM//N80", "ICD10CM//N95", "ICD9CM//64", "ICD9CM//65", "ICD9CM//66"),
    )
    """Codes of women alone."""
    male: tuple[str, ...] = (
        "ICD10CM//C61",
        "ICD10CM//C62",
        "ICD10CM//N40",
        "ICD10CM//N41",
        "ICD9CM//185",
        "ICD9CM//600",
    )
    """Codes of men alone."""
    bearing: tuple[str, ...] = ("ICD10CM//O", "ICD10CM//Z34")
    """Codes of ages 10 to 60 alone."""
    once: tuple[str, ...] = ("MEDS_BIRTH", "ICD10PCS//0DTJ", "ICD10PCS//0UT9", "ICD10PCS//0FT4")
    """Codes that a life holds once: births, and organs taken out."""


@dataclass(frozen=True, kw_only=True)
class Rethinking:
    """How futures of patients are drawn and weighed."""

    samples: int = 100
    """Futures a patient, N."""
    seed: int = 0
    """Of the futures, and of the resamples of intervals."""
    longest_days: float = 365.0
    """Outcomes whose window ends later than so many days after the prediction time are left out."""
    outcomes: tuple[str, ...] = ()
    """Names of outcomes; all of the cohort's where empty."""
    max_tokens: int = 256
    """Tokens of a future, at most."""
    neighbours: int = 100
    """Similar training patients whose follow-up is evidence."""
    own_windows: int = 5
    """Windows of the patient's own past that are evidence beside them, at most."""
    rare: int = 50
    """A code of fewer training patients is counted as its nearest ancestor."""
    prior: float = 10.0
    """Windows that the model's own probability is worth."""
    mix: float = 0.5
    """Share of the evidence in the ratio, 0 to 1."""
    clip: float = 2.0
    """Bound of a step's logarithmic ratio, nats."""
    tempers: tuple[float, ...] = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)
    """Tempers that the tuning split chooses from."""
    floor_share: float = 0.3
    """Least effective sample size, as a share of the futures."""
    floor_least: float = 5.0
    """Least effective sample size."""
    value: Value = "indicator"
    """What a future counts: whether it reaches the outcome, or what SCOPE or REACH make of its steps."""
    reach: bool = False
    """Whether to draw futures with each outcome suppressed, which REACH needs: one more set of futures an outcome."""
    fitting: int = 500
    """Patients of the tuning split that choose the temper, and of the calibration split that calibrate, at most."""
    bootstrap: int = 200
    """Resamples of futures behind an interval."""
    contradictions: Contradictions = field(default_factory=Contradictions)
    """What rules a future out."""

    def __post_init__(self) -> None:
        """Refuse what cannot be run.

        Raises:
            ValueError: a number is out of range.
        """
        least = {"samples": 1, "max_tokens": 1, "neighbours": 1, "fitting": 1, "bootstrap": 2, "rare": 1}
        for name, low in least.items():
            if getattr(self, name) < low:
                raise ValueError(f"{name} is {getattr(self, name)}; expected {low} or more")
        for name in ("longest_days", "prior", "clip"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; expected above 0")
        for name in ("mix", "floor_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected 0 to 1")
        if self.own_windows < 0 or self.floor_least < 0:
            raise ValueError("own_windows and floor_least: expected 0 or more")
        if not self.tempers or not all(0 <= temper <= 1 for temper in self.tempers):
            raise ValueError(f"tempers are {list(self.tempers)}; expected numbers from 0 to 1")
        if self.value not in VALUES or (self.value == "reach" and not self.reach):
            raise ValueError(f"value is {self.value}; expected indicator, scope, or reach beside `reach: true`")

    @property
    def floor(self) -> float:
        """Least effective sample size of a patient's weights."""
        return max(self.floor_share * self.samples, self.floor_least)

    def content(self) -> dict[str, Any]:
        """Return settings as plain types."""
        return asdict(self)


def of_content(content: dict[str, Any]) -> Rethinking:
    """Return settings from what `content` gave, read back from JSON."""
    held: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in content.items()}
    rules: dict[str, Any] = {name: tuple(value) for name, value in held.pop("contradictions").items()}
    return Rethinking(**held, contradictions=Contradictions(**rules))


def configured(config: Path | None) -> Rethinking:
    """Return the settings of a YAML file; defaults without one.

    Raises:
        ValueError: the file is not there, or a key or value is wrong.
    """
    if config is None:
        return Rethinking()
    if not config.is_file():
        raise ValueError(f"{config}: no such file; expected settings in YAML, such as configs/rethink/patients.yaml")
    import jsonargparse

    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--config", action="config")
    parser.add_class_arguments(Rethinking, "rethinking")
    try:
        made = parser.instantiate(parser.parse_args(["--config", str(config)]))
    except (jsonargparse.ArgumentError, TypeError, ValueError) as error:
        raise ValueError(f"{config}: {' '.join(str(error).split())[:400]}; mend it there") from None
    return made.rethinking
