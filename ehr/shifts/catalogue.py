"""EHR-C: fifteen corruptions of coded records that test, and four spare ones that training may use.

Five severities each. What is edited at one severity is edited at the next (but for date_coarsen, where weeks lie across
months), and hangs on seed, corruption, subject and event alone, whoever stands beside it.
"""

from collections.abc import Callable
from typing import NamedTuple

import polars as pl

from ehr.events import EVENTS
from ehr.shifts import additions, codings, dates, removals
from ehr.shifts.codebook import DIAGNOSES, DRUGS, ICD, LABS, Codebook
from ehr.shifts.noise import SEEN

Step = Callable[[pl.LazyFrame, float, Codebook, int], pl.LazyFrame]
SEVERITIES = (1, 2, 3, 4, 5)


class Corruption(NamedTuple):
    """One way in which records differ from those that a model learnt from.

    Attributes:
        name: as figures call it.
        step: FRAME, level, codebook, seed -> FRAME.
        levels: by severity from 1 to 5.
        unit: what a level counts.
        seen: whether our own training noise resembles it.
        lacking: codebook -> what a cohort lacks to express it; "" where it can.
    """

    name: str
    step: Step
    levels: tuple[float, ...]
    unit: str
    seen: bool
    lacking: Callable[[Codebook], str]


def nothing(book: Codebook) -> str:  # noqa: ARG001
    """Return "": any cohort can express it."""
    return ""


def lacks_longer_codes(book: Codebook) -> str:
    """Return what is missing where no ICD code has more than three characters."""
    longer = book.codes.filter(pl.col("category") != pl.col("code"))
    return "" if len(longer) else "no ICD code of more than three characters"


def lacks_siblings(book: Codebook) -> str:
    """Return what is missing where no ICD code has another of its category."""
    return "" if book.codes["siblings"].list.len().sum() else "no two ICD codes of one category"


def lacks_map(book: Codebook) -> str:
    """Return what is missing where codes cannot change their system."""
    if not book.systems() & set(ICD):
        return "no ICD code"
    return "" if book.there_and_back else "no code map (--code-map)"


def lacks_diagnoses(book: Codebook) -> str:
    """Return what is missing where no code is a diagnosis."""
    return "" if book.systems() & set(DIAGNOSES) else "no diagnosis"


def lacks_modalities(book: Codebook) -> str:
    """Return what is missing where drugs and laboratory results are all there is, or none is."""
    held = book.systems()
    some = held & {*DRUGS, *LABS}
    return "" if some and some != held else "no drugs or laboratory results beside other codes"


def corruption(
    step: Step, levels: tuple[float, ...], unit: str, lacking: Callable[[Codebook], str] = nothing
) -> Corruption:
    """Return a corruption by the name of its step."""
    name = step.__name__
    return Corruption(name, step, levels, unit, name in SEEN, lacking)


TEST: dict[str, Corruption] = {
    one.name: one
    for one in (
        corruption(removals.code_dropout, (0.05, 0.1, 0.2, 0.35, 0.5), "share of codes"),
        corruption(removals.visit_dropout, (0.05, 0.1, 0.2, 0.35, 0.5), "share of visits"),
        corruption(removals.history_truncation, (0.75, 0.5, 0.3, 0.15, 0.05), "share of days kept"),
        corruption(removals.recency_gap, (7, 14, 30, 60, 90), "days"),
        corruption(dates.date_jitter, (1, 3, 7, 14, 30), "days, scale"),
        corruption(dates.date_coarsen, (0, 1, 2, 3, 4), "week, month, quarter, half-year, year"),
        corruption(codings.code_coarsen, (0.1, 0.25, 0.5, 0.75, 1), "share of codes", lacks_longer_codes),
        corruption(codings.sibling_swap, (0.02, 0.05, 0.1, 0.2, 0.3), "share of codes", lacks_siblings),
        corruption(codings.system_change, (0.1, 0.25, 0.5, 0.75, 1), "share of codes", lacks_map),
        corruption(codings.local_codes, (0.02, 0.05, 0.1, 0.2, 0.4), "share of kinds of codes"),
        corruption(additions.spurious_codes, (0.05, 0.1, 0.2, 0.35, 0.5), "per code"),
        corruption(additions.copy_forward, (0.1, 0.2, 0.3, 0.5, 0.7), "share of diagnoses", lacks_diagnoses),
        corruption(dates.visit_merge, (1, 3, 7, 14, 30), "days"),
        corruption(removals.modality_outage, (0.1, 0.25, 0.5, 0.75, 1), "share of patients", lacks_modalities),
        corruption(dates.code_order_shuffle, (0.2, 0.4, 0.6, 0.8, 1), "share of visits"),
    )
}
SPARE: dict[str, Corruption] = {
    one.name: one
    for one in (
        corruption(dates.age_error, (1, 2, 3, 5, 10), "years, standard deviation"),
        corruption(removals.sex_missing, (0.005, 0.01, 0.02, 0.05, 0.1), "share of patients"),
        corruption(removals.rare_code_loss, (0.0005, 0.001, 0.002, 0.005, 0.01), "share of training patients"),
        corruption(additions.duplicate_visit, (0.02, 0.05, 0.1, 0.2, 0.3), "share of visits"),
    )
}


def find(name: str) -> Corruption:
    """Return a corruption.

    Raises:
        ValueError: there is no such one.
    """
    known = {**TEST, **SPARE}
    if name not in known:
        raise ValueError(f"no corruption {name}; expected one of {', '.join(known)}")
    return known[name]


def corrupt(frame: pl.LazyFrame, name: str, severity: int, *, seed: int, book: Codebook) -> pl.LazyFrame:
    """Return corrupted records; labels and prediction times are what they were, and nothing lies behind these.

    Args:
        frame: FRAME, as `gather` returns it.
        name: of TEST or SPARE.
        severity: 1 to 5; 0 returns the records as they are.
        seed: of the benchmark.
        book: codes of the training split.

    Returns:
        EVENTS and prediction_time, sorted by subject, prediction time and time.

    Raises:
        ValueError: no such corruption or severity, or one that the cohort cannot express.
    """
    found = find(name)
    if severity not in (0, *SEVERITIES):
        raise ValueError(f"severity is {severity}; expected 0 to 5")
    lacking = found.lacking(book)
    if lacking:
        raise ValueError(f"{name} is not applicable: {lacking}; leave it out")
    made = found.step(frame, found.levels[severity - 1], book, seed) if severity else frame
    return made.select(*EVENTS.names(), "prediction_time")


def applicable(book: Codebook) -> tuple[list[str], dict[str, str]]:
    """Return the test corruptions that a cohort can express, and why it cannot express the others."""
    reasons = {name: one.lacking(book) for name, one in TEST.items()}
    return [name for name, why in reasons.items() if not why], {name: why for name, why in reasons.items() if why}
