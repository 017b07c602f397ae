"""Cohorts: blocks of patients as events and true risks; a smaller cohort is the beginning of a larger one."""

from itertools import pairwise
from typing import NamedTuple

import polars as pl

from ehr.codes import ancestors_of
from ehr.simulator import blocks, records
from ehr.simulator.course import BLOCK
from ehr.simulator.frailty import traces
from ehr.simulator.frailty.lives import lives
from ehr.simulator.frailty.truth import truth as frailty_truth
from ehr.simulator.graph import DISEASES
from ehr.simulator.truth import TRUTH, truth
from ehr.simulator.types import lives as typed
from ehr.simulator.types.truth import truth as typed_truth

SEMI_MARKOV, FRAILTY, HIDDEN_TYPES = "semi_markov", "frailty", "hidden_types"
MECHANISMS = (SEMI_MARKOV, FRAILTY, HIDDEN_TYPES)
MOST_PATIENTS, MOST_SEED = 100_000_000, 2**63
FILE_BLOCKS = 12
"""Blocks in a file at most: about a million events."""
CODES = pl.Schema({"code": pl.String(), "description": pl.String(), "parent_codes": pl.List(pl.String)})


class Span(NamedTuple):
    """Blocks from `first` until before `last`, of a cohort of so many patients."""

    first: int
    last: int
    patients: int


def check(patients: int, seed: int) -> None:
    """Refuse what cannot be drawn.

    Raises:
        ValueError: the number of patients or the seed is out of range.
    """
    if not 1 <= patients <= MOST_PATIENTS:
        raise ValueError(f"--patients is {patients:,}; expected 1 to {MOST_PATIENTS:,}")
    if not 0 <= seed < MOST_SEED:
        raise ValueError(f"--seed is {seed}; expected 0 to 2^63 - 1")


def spans(patients: int) -> list[Span]:
    """Divide the blocks of a cohort into files of near equal size."""
    number = -(-patients // BLOCK)
    files = -(-number // FILE_BLOCKS)
    edges = [number * file // files for file in range(files + 1)]
    return [Span(first, last, patients) for first, last in pairwise(edges)]


def draw(
    span: Span, *, seed: int, mechanism: str = SEMI_MARKOV, with_truth: bool = True
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Draw some blocks of a cohort.

    Args:
        span: which blocks.
        seed: of the cohort.
        mechanism: of MECHANISMS.
        with_truth: whether to work out true risks, which takes longer than the events.

    Returns:
        EVENTS in canonical order, and TRUTH, without rows where it is not asked for.
    """
    one = {SEMI_MARKOV: semi_markov_block, FRAILTY: frail_block, HIDDEN_TYPES: typed_block}[mechanism]
    drawn = [one(seed, number, with_truth=with_truth) for number in range(span.first, span.last)]
    inside = pl.col("subject_id") < span.patients
    events, risks = (pl.concat(frames).filter(inside) for frames in zip(*drawn, strict=True))
    return events, risks


def semi_markov_block(seed: int, number: int, *, with_truth: bool) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return EVENTS and TRUTH of a block of the graph of diseases."""
    block = blocks.draw(seed, number)
    risks = truth(block) if with_truth else pl.DataFrame(schema=TRUTH)
    return records.events(block.course, block.written.rows), risks


def frail_block(seed: int, number: int, *, with_truth: bool) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return EVENTS and TRUTH of a block of hidden frailty."""
    block, numbers = lives(seed, number)
    written = traces.write(block, numbers)
    return traces.events(block, written), frailty_truth(block, written) if with_truth else pl.DataFrame(schema=TRUTH)


def typed_block(seed: int, number: int, *, with_truth: bool) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return EVENTS and TRUTH of a block of hidden types."""
    block, numbers = typed.lives(seed, number)
    return typed.events(block, numbers), typed_truth(block) if with_truth else pl.DataFrame(schema=TRUTH)


def cohort(
    patients: int, *, seed: int, mechanism: str = SEMI_MARKOV, with_truth: bool = True
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Draw a cohort whole, in memory.

    Args:
        patients: their number; subjects are 0, 1, 2, ...
        seed: of the cohort.
        mechanism: of MECHANISMS.
        with_truth: whether to work out true risks.

    Returns:
        EVENTS in canonical order, and TRUTH.

    Raises:
        ValueError: the number of patients or the seed is out of range.
    """
    check(patients, seed)
    return draw(Span(0, -(-patients // BLOCK), patients), seed=seed, mechanism=mechanism, with_truth=with_truth)


def codes(mechanism: str = SEMI_MARKOV) -> pl.DataFrame:
    """Return every code that a record may hold, with what it stands for in the simulator and its parents."""
    told = {SEMI_MARKOV: described, FRAILTY: traces.described, HIDDEN_TYPES: typed.described}[mechanism]()
    columns = {
        "code": records.CODES,
        "description": [told.get(code, "bears on no disease") for code in records.CODES],
        "parent_codes": [list(ancestors_of(code)[:1]) for code in records.CODES],
    }
    return pl.DataFrame(columns, schema=CODES)


def described() -> dict[str, str]:
    """Return what codes stand for in the graph of diseases."""
    told: dict[str, str] = {}
    for disease in DISEASES:
        name = disease.name.replace("_", " ")
        told |= dict.fromkeys(disease.codes, name)
        told[disease.symptom] = f"symptom, more often before {name} is diagnosed"
        # A drug may serve several diseases.
        told |= {drug: f"{told[drug]}, {name}" if drug in told else f"drug for {name}" for drug in disease.drugs}
        if disease.lab:
            told[disease.lab.code] = f"lab that {name} changes"
    return told
