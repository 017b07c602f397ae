"""Figures of the learning benchmark from parts: pairing, pooling, the worst of what is held to a bound."""

import json

import numpy as np
import pytest

from tests.benchmarks import harness
from tests.benchmarks.learning import figures, oracle, parts, simulators

REPLICATES = 1 + 200


def part(cohort, arm, seed, value, **more):
    """Return a part whose resamples move with the seed's own, so that differences are far narrower."""
    shared = np.random.default_rng(seed).normal(0, 0.02, REPLICATES)
    shared[0] = 0
    own = np.random.default_rng([seed, int(1e6 * value)]).normal(0, 0.001, REPLICATES)
    own[0] = 0
    values = (value + shared + own).tolist()
    names = ("macro.auroc", "macro.auprc", *(("macro_rare.auprc",) if cohort.startswith("simulator") else ()))
    held = {"patients": 100, "samples": 100, "outcomes": {}, "replicates": dict.fromkeys(names, values), **more}
    return {"cohort": cohort, "arm": arm, "seed": seed, "labelled": 100, "held_out": held}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "PARTS", tmp_path / "parts")
    monkeypatch.setattr(harness, "FIGURES", tmp_path)
    monkeypatch.setattr(harness.Figure.write, "__defaults__", (tmp_path,))
    return tmp_path


def keep(folder, held):
    (folder / "parts").mkdir()
    for number, one in enumerate(held):
        (folder / "parts" / f"learning-{number}.json").write_text(json.dumps(one))


def read(folder, name):
    return json.loads((folder / f"{name}.json").read_text())


def test_a_difference_is_paired_within_seeds_and_the_best_rival_is_met(folder):
    held = [part("diabetes130", "ours", seed, 0.70) for seed in (0, 1)]
    held += [part("diabetes130", "boosting", seed, 0.69) for seed in (0, 1)] + [part("diabetes130", "age_sex", 0, 0.5)]
    keep(folder, held)
    figures.write()
    found = read(folder, "learning.diabetes130.readmission.auroc")
    assert found["rival"] == "boosting"
    assert found["value"] - found["rival_value"] == pytest.approx(0.01)
    # Unpaired, the interval would be eight hundredths wide.
    assert 0.006 < found["lower"] < 0.01 < found["upper"] < 0.014
    assert found["seeds"] == [0, 1]


def test_few_labels_are_compared_with_scratch(folder):
    held = [
        {**part("simulator.demo", arm, 0, value), "labelled": 1} for arm, value in (("ours", 0.6), ("scratch", 0.5))
    ]
    keep(folder, held)
    figures.write()
    found = read(folder, "learning.simulator.pretraining_gain.1")
    assert found["value"] == pytest.approx(0.1)
    assert found["lower"] > 0.09


def test_the_worst_common_outcome_is_told():
    def common(gap, slope, ece):
        return {
            f"a{at}.365": {"oracle": 0.8, "auroc": 0.8 - gap - at / 1000, "slope": slope, "ece": ece} for at in range(5)
        }

    held = []
    for cohort, gap in (("simulator.semi_markov", 0.01), ("simulator.frailty", 0.02)):
        held.append(part(cohort, "ours", 0, 0.7, common=common(gap, 1.0 - gap, gap / 10)))
        held.append(part(cohort, "logistic", 0, 0.7, common=common(0.05, 1.0, 0.0)))
    found = simulators.judged(held)
    assert len(found) == 10
    worst = max(found, key=lambda one: one.oracle - one.auroc)
    assert worst.place == "simulator.frailty a4.365"
    assert worst.oracle - worst.auroc == pytest.approx(0.024)


def test_calibration_is_against_true_risk():
    draw = np.random.default_rng(3)
    risk = draw.beta(1, 8, 4_000)
    label = draw.random(4_000) < risk
    exact = oracle.one(label, risk, risk)
    assert (exact["slope"], exact["ece"]) == (pytest.approx(1.0), pytest.approx(0.0))
    assert exact["oracle"] == exact["auroc"]
    steep = 1 / (1 + np.exp(-2 * np.log(risk / (1 - risk))))
    wrong = oracle.one(label, risk, steep)
    assert wrong["slope"] == pytest.approx(0.5, abs=1e-6)
    assert wrong["ece"] > 0.02
    assert wrong["auroc"] == pytest.approx(exact["auroc"])
