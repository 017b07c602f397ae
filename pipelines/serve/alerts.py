"""Above which probability a card is shown: the site's own choice, in YAML, by outcome and horizon."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from ehr import settings
from ehr.outcomes.registry import Registry

EXPECTED = "probabilities by outcome and horizon in YAML, such as {heart_failure: {365: 0.2}}"
INDICATORS = ("info", "warning")
"""Words of CDS Hooks; its third, critical, is for what cannot wait, which no estimate of months is."""


class Alert(NamedTuple):
    """Where cards begin, and how they look: `info` or `warning`."""

    threshold: float
    indicator: str = "info"


Alerts = Mapping[tuple[str, int], Alert]
NONE: Alerts = MappingProxyType({})
"""No thresholds: no cards."""


def load(path: Path, registry: Registry) -> Alerts:
    """Read thresholds.

    Args:
        path: YAML of outcomes, each with horizons in days, each with a probability above 0 and below 1, or with
            `threshold` and `indicator`.
        registry: what the release predicts.

    Raises:
        ValueError: it is no such file, or names an outcome or horizon that the release does not have.
    """
    content = settings.read(path, EXPECTED)
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{path}: no outcomes; expected {EXPECTED}")
    horizons = {outcome.name: outcome.horizons_days for outcome in registry.outcomes}
    found: dict[tuple[str, int], Alert] = {}
    held: Mapping[Any, Any] = content
    for outcome, entries in held.items():
        if outcome not in horizons:
            raise ValueError(f"{path}: unknown outcome {outcome}; the release has {', '.join(horizons)}")
        if not isinstance(entries, dict) or not entries:
            raise ValueError(f"{path}: {outcome} has no horizons; expected {EXPECTED}")
        for days, entry in entries.items():
            if isinstance(days, bool) or days not in horizons[outcome]:
                known = ", ".join(map(str, horizons[outcome]))
                raise ValueError(f"{path}: {outcome} has no horizon {days}; the release has {known} days")
            found[outcome, int(days)] = alert_of(entry, f"{path}: {outcome}.{days}")
    return MappingProxyType(found)


def alert_of(entry: object, name: str) -> Alert:
    """Return one threshold.

    Args:
        entry: a probability, or `threshold` and `indicator`.
        name: what to call it in errors.
    """
    held: Mapping[Any, Any] = entry if isinstance(entry, dict) else {"threshold": entry}
    unknown = [key for key in held if key not in Alert._fields]
    if unknown:
        raise ValueError(f"{name}: unknown key {unknown[0]}; expected threshold and indicator")
    threshold, indicator = held.get("threshold"), held.get("indicator", "info")
    if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not 0 < threshold < 1:
        raise ValueError(f"{name} is {threshold}; expected a probability above 0 and below 1")
    if indicator not in INDICATORS:
        raise ValueError(f"{name}: indicator {indicator}; expected {' or '.join(INDICATORS)}")
    return Alert(float(threshold), str(indicator))
