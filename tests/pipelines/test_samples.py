"""Samples of a cohort: labels in their places, and shared readings that tell what readings alone would."""

import math

import numpy as np
import polars as pl
import pytest

from ehr.outcomes.labels import LABELS
from ehr.outcomes.registry import Registry
from ehr.timelines import cut
from pipelines import cohort as cohorts_on_disk
from pipelines import samples as s
from tests.pipelines import cohorts


@pytest.fixture(scope="module")
def held(tmp_path_factory):
    return cohorts_on_disk.open_cohort(cohorts.write(tmp_path_factory.mktemp("samples") / "cohort"))


def test_labels_stand_in_their_places(held):
    asked = s.questions_of(held, "train")
    labels = cohorts_on_disk.labels(held, "train")
    times = labels["prediction_time"].to_physical()
    expected = {}
    for (subject, outcome, days, value), time in zip(
        labels.select("subject_id", "outcome", "horizon_days", "boolean_value").iter_rows(), times, strict=True
    ):
        row = expected.setdefault((subject, time), np.full(held.registry.horizons.shape, np.nan))
        k = held.registry.names.index(outcome)
        h = held.registry.horizons[k].tolist().index(days)
        row[k, h] = math.nan if value is None else value
    assert list(zip(asked.subject.tolist(), asked.time.tolist(), strict=True)) == sorted(expected)
    np.testing.assert_array_equal(asked.label, [expected[key] for key in sorted(expected)])
    seen, positives = s.counts(asked)
    assert seen[0, 0] == sum(not math.isnan(row[0, 0]) for row in expected.values())
    assert positives[0, 0] == sum(row[0, 0] == 1 for row in expected.values()) > 0
    assert s.without_positives(asked, held.registry.names) == ["never"]


def test_no_labels_are_no_questions():
    found = s.questions(pl.DataFrame(schema=LABELS), Registry(()))
    assert found.label.shape == (0, 0, 0)


def test_splits_that_are_not_there_are_named(held):
    with pytest.raises(ValueError, match="no split external; expected one of calibration, held_out, train, tuning"):
        s.questions_of(held, "external")


def test_samples_answer_their_questions(held):
    asked, samples = s.samples_and_labels(held, "tuning", 20)
    assert [(sample.subject, sample.prediction_time) for sample in samples] == list(
        zip(asked.subject.tolist(), asked.time.tolist(), strict=True)
    )
    assert max(len(sample.token) for sample in samples) == 20


@pytest.mark.parametrize("max_length", [16, 24, 512])
def test_shared_readings_hold_what_each_question_may_see(held, max_length):
    asked = s.questions_of(held, "train")
    source = cohorts_on_disk.timelines(held)
    found = s.groups(source, asked, max_length, share=True)
    placed = sorted(at for group in found for at in group.questions.tolist())
    assert placed == list(range(len(asked.subject)))
    assert max(len(group.questions) for group in found) > 1
    for group in found:
        record = source.record(group.subject)
        whole = cut(record, group.time, max_length=max_length)
        assert len(whole.token) == group.length <= max_length
        for at, age, before in zip(group.questions.tolist(), group.age_days, group.before, strict=True):
            alone = cut(record, int(asked.time[at]), max_length=max_length)
            assert age == pytest.approx(alone.query_age_days, abs=1e-2)
            assert alone.visit[-1] == before - 1
            # What lies before the first visit that is hidden is the latest part of the sample alone.
            known, own = (sample.token[sample.visit > 0].tolist() for sample in (whole, alone))
            seen = known[: int((whole.visit[whole.visit > 0] < before).sum())]
            assert own[len(own) - len(seen) :] == seen
            if len(record.token) <= max_length:
                assert seen == own
            else:
                assert len(seen) >= min(len(own), max_length // 2)


def test_alone_each_question_has_a_reading(held):
    asked = s.questions_of(held, "train")
    source = cohorts_on_disk.timelines(held)
    found = s.groups(source, asked, 512, share=False)
    assert [group.questions.tolist() for group in found] == [[at] for at in range(len(asked.subject))]
    assert [group.length for group in found] == [len(sample.token) for sample in s.samples_of(source, asked, 512)]
