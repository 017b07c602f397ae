"""Counts against counting one by one; nothing after the prediction time is seen."""

import numpy as np
import polars as pl
import pytest

from ehr.baselines import design
from ehr.baselines.features import features
from ehr.timelines import DAY, STATIC, Shard, Timelines, build
from ehr.vocabulary import Settings, Vocabulary, count, merge
from tests.pipelines.cohorts import events

FRAME = events(60, seed=3)
VOCABULARY = Vocabulary.fit(merge([count(FRAME)]), Settings(min_patients=2, bins=3, min_rows=20))


def source(frame):
    return Timelines([Shard(build(frame, VOCABULARY))])


def questions(number=80, seed=0):
    """Draw subjects and times: at an event, between events, before and after all."""
    random = np.random.default_rng(seed)
    dated = FRAME.filter(pl.col("time").is_not_null(), pl.col("code") != "MEDS_BIRTH")
    rows = random.integers(0, len(dated), number)
    time = dated["time"].to_physical().to_numpy()[rows] + random.choice([0, -1, 1, 400 * DAY], number)
    subject = dated["subject_id"].to_numpy()[rows]
    order = np.lexsort((time, subject))
    return subject[order], time[order]


def found_for(frame, subject, time):
    parts = [frame.filter(pl.col("subject_id") % 2 == at).lazy() for at in range(2)]
    return features(source(frame), parts, subject, time, VOCABULARY)


SUBJECT, TIME = questions()
FOUND = found_for(FRAME, SUBJECT, TIME)


@pytest.mark.parametrize("at", range(0, 80, 7))
def test_counts_are_those_of_counting(at):
    record = source(FRAME).record(int(SUBJECT[at]))
    counts, recent = np.zeros(VOCABULARY.size), np.zeros(VOCABULARY.size)
    last = np.full(VOCABULARY.size, np.inf)
    for token, time in zip(record.token.tolist(), record.time.tolist(), strict=True):
        if time > TIME[at]:
            continue
        days = (TIME[at] - (record.birth if time == STATIC else time)) / DAY
        for name in (token, *VOCABULARY.ancestors[token]):
            if "#q" not in VOCABULARY.codes[name]:
                counts[name] += 1
                recent[name] += days <= 365.25
                last[name] = min(last[name], days)
    assert np.array_equal(FOUND.counts[at].toarray()[0], counts)
    assert np.array_equal(FOUND.recent[at].toarray()[0], recent)
    assert np.allclose(FOUND.since[at].toarray()[0], 2.0 ** (-last / 365.25), atol=1e-6)
    assert counts.sum() > 0


def test_values_are_the_last_and_the_mean():
    code = sorted(VOCABULARY.cuts)[0]
    for at in range(len(SUBJECT)):
        past = FRAME.filter(
            pl.col("subject_id") == SUBJECT[at],
            pl.col("code") == code,
            pl.col("time").to_physical() <= TIME[at],
        )["numeric_value"]
        expected = (past[-1], past.mean()) if len(past) else (np.nan, np.nan)
        assert np.allclose(FOUND.values[at, :2], expected, atol=1e-4, equal_nan=True)
    assert np.isnan(FOUND.values[:, 0]).any() or (FOUND.values[:, 0] != FOUND.values[:, 1]).any()


def test_what_comes_later_changes_nothing():
    horizon = {subject: TIME[subject == SUBJECT].max() for subject in set(SUBJECT.tolist())}
    later = pl.DataFrame(
        [
            (subject, time + 1 + k, code, value, None)
            for subject, time in horizon.items()
            for k, (code, value) in enumerate((("ICD10CM//I50.9", None), ("LOINC//718-7", 3.0)))
        ],
        schema=["subject_id", "time", "code", "numeric_value", "text_value"],
        orient="row",
    ).select(pl.col(name).cast(kind) for name, kind in FRAME.schema.items())
    frame = pl.concat([FRAME, later]).sort("subject_id", "time", maintain_order=True, nulls_last=False)
    other = found_for(frame, SUBJECT, TIME)
    assert (FOUND.counts != other.counts).nnz == 0
    assert (FOUND.recent != other.recent).nnz == 0
    assert (FOUND.since != other.since).nnz == 0
    assert np.array_equal(FOUND.plain, other.plain)
    assert np.array_equal(FOUND.values, other.values, equal_nan=True)


def test_columns_do_not_hang_on_other_samples():
    made = design.fit(FOUND)
    whole = design.apply(made, FOUND)
    few = design.apply(made, found_for(FRAME, SUBJECT[:5], TIME[:5]))
    assert (whole.linear[:5] != few.linear).nnz == 0
    assert np.isfinite(whole.linear.data).all()
    assert whole.linear.shape[1] > whole.dense.shape[1]


def test_many_chunks_equal_one(monkeypatch):
    monkeypatch.setattr("ehr.baselines.features.CHUNK_TOKENS", 50)
    other = found_for(FRAME, SUBJECT, TIME)
    assert (FOUND.counts != other.counts).nnz == 0
    assert np.array_equal(FOUND.plain, other.plain)
