"""How much of what is wrong is borne: read from YAML, carried by the cohort and the release."""

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self

import yaml


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """Largest shares of rows (0 to 1), unless said otherwise; above one of them the verb stops."""

    null_subject: float = 0.001
    """Rows without a subject."""
    negative_subject: float = 0.0
    """Rows with a subject id below 0."""
    null_code: float = 0.001
    """Rows without a code."""
    not_finite: float = 0.001
    """Rows whose value is NaN or infinite."""
    unreadable: float = 0.01
    """Rows that the reader of the format could not use."""
    future: float = 0.0
    """Rows later than `now`."""
    before_birth: float = 0.01
    """Rows earlier than the day of their patient's birth."""
    after_death: float = 0.02
    """Rows later than the day after their patient's death."""
    implausible: float = 0.02
    """Rows whose value lies outside the plausible range of their code; they are kept."""
    duplicates: float = 0.2
    """Rows equal to the row before them in every column; they are kept."""
    no_birth: float = 1.0
    """Patients without a birth: their age counts from their first event."""
    unknown_codes: float = 0.05
    """Events outside the training patients whose code has no token, nor an ancestor with one."""
    unit_drift: float = 5.0
    """Largest ratio, either way, of a code's median to its training median (a quotient, not a share)."""
    drifted_codes: float = 0.05
    """Codes whose median drifts further than `unit_drift`, of those compared."""
    label_before_input: float = 0.05
    """Labelled samples before their patient's first event."""
    empty_patients: float = 0.5
    """Patients without a token."""
    now: str | None = None
    """The date that counts as today, YYYY-MM-DD; rows later than it lie in the future. None takes the clock's."""

    def __post_init__(self) -> None:
        """Check ranges."""
        for name, value in asdict(self).items():
            if name != "now" and not (isinstance(value, int | float) and value >= 0):
                raise ValueError(f"{name} is {value}; expected a number of at least 0")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read thresholds from YAML; what is not named keeps its default.

        Raises:
            ValueError: no such file, not YAML, an unknown key or a value out of range.
        """
        if not path.is_file():
            raise ValueError(f"{path}: no such file; expected thresholds in YAML (see configs/quality.yaml)")
        try:
            content: Any = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        except (yaml.YAMLError, UnicodeDecodeError):
            raise ValueError(f"{path}: not YAML; mend it (see configs/quality.yaml)") from None
        return cls.parse(content, str(path))

    @classmethod
    def parse(cls, content: object, name: str) -> Self:
        """Return thresholds from a mapping (see `load`)."""
        known = [field.name for field in fields(cls)]
        if not isinstance(content, dict):
            raise ValueError(f"{name}: expected keys and numbers, one a line")
        unknown = [str(key) for key in content if key not in known]
        if unknown:
            raise ValueError(f"{name}: unknown key {unknown[0]}; expected one of {', '.join(known)}")
        try:
            values = {
                str(key): str(value) if key == "now" and value else value for key, value in content.items()
            }
            return cls(**values)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
