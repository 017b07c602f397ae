"""True risks against what came true, labelled by the registry's own rules."""

import numpy as np
import polars as pl
import pytest

from ehr.outcomes.registry import load
from ehr.simulator import blocks, records
from ehr.simulator.truth import GAP_DAYS, TRUTH, truth
from tests.ehr.simulator.realised import KEYS, errors, realised, registry

BANDS = (0.002, 0.01, 0.03, 0.1, 0.2, 0.4)


@pytest.fixture(scope="module")
def joined(drawn, shards, truths):
    return realised(drawn, shards, truths)


@pytest.fixture(scope="module")
def both(joined):
    return joined.drop_nulls("boolean_value")


def test_every_window_that_can_be_seen_has_a_label_and_a_risk(joined):
    assert joined.height > 200_000
    assert joined["risk"].null_count() == 0
    assert set(joined["outcome"]) == set(registry().names)
    # What happens within the gap makes a prior case, known only afterwards: a risk without a label.
    unlabelled = joined.filter(pl.col("boolean_value").is_null())
    assert 0 < unlabelled.height < 0.005 * joined.height
    assert unlabelled["event"].null_count() == unlabelled.height
    assert unlabelled["gap"].min() == GAP_DAYS


def test_risks_are_calibrated_in_the_large(both):
    table = errors(both, "outcome", "horizon_days")
    assert table.height == 2 * len(registry().outcomes) - 2
    assert table.filter(pl.col("z").abs() > 4).is_empty(), table.sort("z")
    # Were the errors too wide, nothing could fail: over outcomes they spread as standard errors do.
    assert 0.5 < np.sqrt((table["z"] ** 2).mean()) < 1.5


def test_risks_are_calibrated_in_bands(both):
    band = pl.sum_horizontal([pl.col("risk") > bound for bound in BANDS])
    table = errors(both.with_columns(band=band), "band")
    assert table.height == len(BANDS) + 1
    assert table["z"].abs().max() < 4, table


def test_risks_tell_who(both):
    """The risk says more than its mean: in the upper tenth events are at least twice as frequent."""
    for name in ("type_2_diabetes", "heart_failure", "death", "admission", "copd"):
        held = both.filter(pl.col("outcome") == name)
        held = held.filter(pl.col("horizon_days") == held["horizon_days"].max())
        upper = held.filter(pl.col("risk") >= held["risk"].quantile(0.9))
        assert upper["boolean_value"].mean() > 2 * held["boolean_value"].mean()


def test_a_wrong_risk_would_be_found(both):
    wrong = both.with_columns(pl.col("risk") * 1.3)
    assert errors(wrong, "outcome", "horizon_days")["z"].abs().max() > 4


def test_the_table_is_whole(truths):
    for table in truths:
        assert table.schema == TRUTH
        assert table["risk"].is_between(0, 1).all()
        assert not table.select(KEYS).is_duplicated().any()
        assert table.equals(table.sort(KEYS))


def test_risks_grow_with_the_window(truths):
    table = pl.concat(truths).filter(~pl.col("outcome").is_in(["admission", "readmission"]))
    table = table.pivot(on="horizon_days", index=["subject_id", "outcome"], values="risk")
    assert (table["1095"] >= table["365"]).all()
    assert table["365"].null_count() == 0


def test_the_demo_asks_what_the_truth_answers(shards, truths, request):
    """Labels of the demo's outcomes are those of the truth's outcomes, sample by sample."""
    demo = load(request.config.rootpath / "configs" / "demo" / "outcomes.yaml")
    known = {outcome.name: outcome for outcome in registry().outcomes}
    assert len(demo.outcomes) >= 8
    for outcome in demo.outcomes:
        same = known[outcome.name]
        assert (outcome.any_of, outcome.index, outcome.gap_days) == (same.any_of, same.index, same.gap_days)
        assert (outcome.incident_only, outcome.competing, outcome.censor) == (
            same.incident_only,
            same.competing,
            same.censor,
        )
        assert set(outcome.horizons_days) <= set(same.horizons_days)


@pytest.mark.slow
def test_risks_are_calibrated_in_a_large_cohort():
    found = []
    for number in range(60):
        block = blocks.draw(23, number)
        found.append(realised([block], [records.events(block.course, block.written.rows)], [truth(block)]))
    both = pl.concat(found).drop_nulls("boolean_value")
    table = errors(both, "outcome", "horizon_days")
    assert table["z"].abs().max() < 4, table.sort("z")
    assert 0.7 < np.sqrt((table["z"] ** 2).mean()) < 1.35
