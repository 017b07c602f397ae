"""True risks under hidden types: against sums by hand, continuations, the matrix exponential, and what came true."""

import itertools

import numpy as np
import polars as pl
import pytest
from scipy.linalg import expm

from ehr.events import first_inversion
from ehr.outcomes.labels import label
from ehr.outcomes.registry import Index, Outcome, Registry
from ehr.simulator import cohort
from ehr.simulator.truth import INDEX_DAY, TRUTH
from ehr.simulator.types import law
from ehr.simulator.types.lives import chosen, events, lives, visited
from ehr.simulator.types.truth import HORIZONS_DAYS, filtered, reaching, risk, truth
from tests.ehr.simulator.realised import KEYS, errors

CONTINUATIONS = 8_192
EYE = np.eye(law.STATES)


@pytest.fixture(scope="module")
def drawn():
    """Return some blocks, their events and their risks."""
    found = []
    for number in range(4):
        block, numbers = lives(5, number)
        found.append((block, events(block, numbers), truth(block)))
    return found


def registry():
    """Return every outcome of the truth, written down a second time."""
    window = {
        "index": Index(at="2020-01-01"),
        "horizons_days": HORIZONS_DAYS,
        "incident_only": False,
        "censor": "never",
    }
    codes = dict(zip(law.NAMES, law.CODES, strict=True)) | {"admission": "VISIT//IP//START", "death": "MEDS_DEATH"}
    return Registry(tuple(Outcome(name=name, any_of=(code,), **window) for name, code in codes.items()))


def test_risks_are_calibrated(drawn):
    parts = [label(written, registry())[0].join(risks, on=KEYS, how="inner") for _, written, risks in drawn]
    both = pl.concat(parts)
    assert both.height == sum(risks.height for _, _, risks in drawn)
    table = errors(both, "outcome", "horizon_days")
    assert table.height == 2 * (law.STATES + 2)
    assert table["z"].abs().max() < 4, table.sort("z")
    fifth = both.with_columns(band=(pl.col("risk").rank() / pl.len() * 5).floor().over("outcome", "horizon_days"))
    assert errors(fifth, "band")["z"].abs().max() < 4
    wrong = both.with_columns(pl.col("risk") * 1.3)
    assert errors(wrong, "outcome", "horizon_days")["z"].abs().max() > 4


@pytest.mark.parametrize("row", [3, 200, 555])
def test_the_filter_is_bayes_rule_read_off_the_events(drawn, row):
    """One patient's events, line by line, times the likelihood of each type."""
    block, written, _ = drawn[0]
    belief = filtered(block)
    patient = int(belief.patient[row])
    index = pl.lit(int(INDEX_DAY)).cast(pl.Int64) * 86_400_000_000
    own = written.filter((pl.col("subject_id") == patient) & (pl.col("time").cast(pl.Int64) <= index))
    codes = [law.CODES.index(code) for code in own["code"] if code in law.CODES]
    days = INDEX_DAY - block.people.entry[patient]
    log = np.log(law.prior(block.people)[patient])
    for kind in range(law.TYPES):
        log[kind] += np.log(law.FIRST[kind, codes[0]]) - days * (law.VISITS[kind] + law.DEATHS[kind])
        for before, after in itertools.pairwise(codes):
            log[kind] += np.log(law.VISITS[kind] * law.CHAIN[kind, before, after])
    weight = np.exp(log - log.max())
    assert np.allclose(belief.kind[row], weight / weight.sum(), atol=1e-10)
    assert belief.last[row] == codes[-1]


@pytest.mark.parametrize("row", [3, 200, 555])
def test_risks_are_those_of_continuations(drawn, row):
    """A patient goes on many times from what the filter believes, by the code that drew her."""
    block, _, _ = drawn[0]
    belief = filtered(block)
    draw = np.random.default_rng(row)
    kind = chosen(np.repeat(belief.kind[[row]], CONTINUATIONS, axis=0), draw)
    begin = np.full(CONTINUATIONS, INDEX_DAY)
    death = begin + draw.exponential(1 / law.DEATHS[kind])
    end = np.minimum(death, INDEX_DAY + HORIZONS_DAYS[-1])
    seen = visited(kind, begin, end, np.full(CONTINUATIONS, belief.last[row]), draw)
    hits = {name: (EYE[at], seen.complaint == at) for at, name in enumerate(law.NAMES)}
    hits["admission"] = (law.ADMITTED, seen.inpatient)
    for hit, there in hits.values():
        expected = risk(belief, hit)[row]
        for column, days in enumerate(HORIZONS_DAYS):
            own = np.unique(seen.patient[there & (seen.day <= INDEX_DAY + days)])
            spread = np.sqrt(expected[column] * (1 - expected[column]) / CONTINUATIONS)
            assert abs(len(own) / CONTINUATIONS - expected[column]) < 4.5 * spread


@pytest.mark.parametrize("kind", range(law.TYPES))
@pytest.mark.parametrize("days", [1.0, 365.0, 1095.0])
def test_the_series_is_the_matrix_exponential(kind, days):
    """Visits and death as a chain in continuous time, with the event as one more state."""
    for hit in (EYE[4], law.ADMITTED):
        rate = np.zeros((law.STATES + 1, law.STATES + 1))
        rate[:-1, :-1] = law.VISITS[kind] * law.CHAIN[kind] * (1 - hit)
        rate[:-1, -1] = law.VISITS[kind] * law.CHAIN[kind] @ hit
        rate[np.arange(law.STATES), np.arange(law.STATES)] -= law.VISITS[kind] + law.DEATHS[kind]
        assert np.allclose(reaching(kind, hit, days), expm(rate * days)[:-1, -1], atol=1e-12)


def test_the_type_is_hidden_and_worth_knowing(drawn):
    """Records leave the type open for many, and types differ in what comes."""
    belief = filtered(drawn[0][0])
    assert 0.2 < (belief.kind.max(axis=1) < 0.9).mean() < 0.95
    risks = np.stack([reaching(kind, EYE[4], 365.0) for kind in range(law.TYPES)])
    assert np.ptp(risks, axis=0).max() > 0.1


def test_laws_are_laws():
    assert np.allclose(law.CHAIN.sum(axis=2), 1)
    assert np.allclose(law.FIRST.sum(axis=1), 1)
    assert law.CHAIN.min() > 0


def test_records_are_whole(drawn):
    block, written, risks = drawn[0]
    assert first_inversion(written) is None
    assert set(written["code"]) <= set(cohort.codes(cohort.HIDDEN_TYPES)["code"])
    assert written["subject_id"].n_unique() == len(block.people.subject)
    assert risks.schema == TRUTH
    assert risks.equals(risks.sort(KEYS))
    assert risks["risk"].is_between(0, 1).all()
    assert not risks.select(KEYS).is_duplicated().any()
    one, told = cohort.cohort(1_000, seed=5, mechanism=cohort.HIDDEN_TYPES)
    assert one.equals(written)
    assert told.equals(risks)
    # Nothing in the record names the type: no column, no code of its own.
    assert not any("type" in code.lower() for code in set(written["code"]))
