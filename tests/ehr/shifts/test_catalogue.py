"""EHR-C: what every corruption keeps to, on records drawn at random."""

from datetime import datetime, timedelta

import polars as pl
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from ehr.events import BIRTH, EVENTS
from ehr.shifts.catalogue import SPARE, TEST, applicable, corrupt, find
from ehr.shifts.codebook import NOWHERE, Codebook
from ehr.shifts.frame import FRAME, gather

ALL = [*TEST, *SPARE]
CODES = ["ICD10CM//E11.9", "ICD10CM//E11.65", "ICD10CM//I10", "ICD10CM//I50.9", "ICD10CM//I50.22", "ATC//C03CA01"]
MAP = pl.DataFrame({"icd_9": ["25000", "4019", "4280"], "icd_10": ["E119", "I10", "I509"]})
DAY = timedelta(days=1)
# Tables are slow to shrink, and a failure shows its records as they are.
DRAWN = (Phase.explicit, Phase.reuse, Phase.generate)
NOW = datetime(2020, 1, 1)


def record(subject, visits, sex="F", born=datetime(1950, 5, 5)):
    """Return rows of a patient: a list of (days before NOW, codes) makes the visits."""
    rows = [(subject, None, f"SEX//{sex}", None), (subject, born, BIRTH, None)]
    for back, codes in sorted(visits, reverse=True):
        at = NOW - back * DAY
        rows.append((subject, at, "VISIT//OP//START", None))
        rows += [(subject, at + timedelta(minutes=5 + place), code, None) for place, code in enumerate(codes)]
        rows.append((subject, at + timedelta(minutes=20), "LOINC//718-7", 11.5))
        rows.append((subject, at + timedelta(minutes=30), "VISIT//OP//END", None))
    return rows


def events(*records):
    frame = pl.DataFrame(
        [row for rows in records for row in rows],
        schema=["subject_id", "time", "code", "numeric_value"],
        orient="row",
    ).with_columns(pl.lit(None, pl.String).alias("text_value"))
    return frame.select(pl.col(name).cast(kind) for name, kind in EVENTS.items())


def asked(*subjects, back=0):
    return pl.DataFrame({"subject_id": subjects, "prediction_time": [NOW - back * DAY] * len(subjects)}).with_columns(
        pl.col("prediction_time").cast(pl.Datetime("us"))
    )


@pytest.fixture(scope="module")
def book():
    """Return what a training split of forty patients teaches."""
    training = events(*(record(1000 + at, [(400, CODES[at % 3 :]), (30, CODES[: at % 5])]) for at in range(40)))
    return Codebook.fit(training.lazy(), MAP)


visits = st.lists(
    st.tuples(st.integers(1, 2000), st.lists(st.sampled_from(CODES), max_size=5)),
    min_size=1,
    max_size=6,
    unique_by=lambda visit: visit[0],
)


def shown(frame):
    """Return rows as comparable tuples."""
    return frame.rows()


def run(name, frame, severity, book, seed=0):
    return corrupt(frame.lazy(), name, severity, seed=seed, book=book).collect()


@given(one=visits, other=visits, back=st.integers(0, 300), seed=st.integers(0, 9), name=st.sampled_from(ALL))
@settings(max_examples=12, deadline=None, phases=DRAWN)
def test_order_causality_and_shards(book, one, other, back, seed, name):
    whole = events(record(3, one), record(9, other, sex="M"))
    index = asked(3, 9, back=back)
    frame = gather(whole.lazy(), index, gap_days=30)
    plain = frame.select(*EVENTS.names(), "prediction_time")
    assert shown(run(name, frame, 0, book)) == shown(plain)
    for severity in (3, 5):
        found = run(name, frame, severity, book, seed)
        assert dict(found.schema) == dict(plain.schema)
        assert (found["time"].is_null() | (found["time"] <= found["prediction_time"])).all()
        assert found.sort("subject_id", "prediction_time", "time", nulls_last=False, maintain_order=True).equals(found)
        # Statics are never touched but for the sex; births alone move by an error of age.
        for code in ("SEX//", BIRTH):
            kept = pl.col("code").str.starts_with(code)
            if name not in ("sex_missing", "age_error"):
                assert found.filter(kept).equals(plain.filter(kept))
        # The same for any shard, and for any order of patients.
        apart = [
            run(name, gather(whole.filter(subject_id=subject).lazy(), index, gap_days=30), severity, book, seed)
            for subject in (3, 9)
        ]
        assert pl.concat(apart).equals(found)
        # And whatever lies behind the prediction time.
        ahead = events(record(3, [*one, (-5, CODES)]), record(9, [*other, (-1, CODES)], sex="M"))
        assert run(name, gather(ahead.lazy(), index, gap_days=30), severity, book, seed).equals(found)


REMOVE = ("code_dropout", "visit_dropout", "history_truncation", "recency_gap", "modality_outage", "sex_missing")


def edits(name, frame, severity, book):
    """Return what differs from the record, as a set that must grow with severity."""
    plain, found = run(name, frame, 0, book), run(name, frame, severity, book)
    before, after = [frozenset(enumerate_equal(shown(part))) for part in (plain, found)]
    if name in (*REMOVE, "rare_code_loss"):
        assert after <= before
        return before - after
    if name in ("spurious_codes", "copy_forward", "duplicate_visit"):
        assert before <= after
        return after - before
    if name in ("code_coarsen", "sibling_swap", "system_change", "local_codes"):
        # In place: row by row, and what is written there does not change with severity.
        return frozenset((at, b) for at, (a, b) in enumerate(zip(shown(plain), shown(found), strict=True)) if a != b)
    raise AssertionError(name)


def enumerate_equal(rows):
    """Yield rows, equal ones numbered."""
    seen = {}
    for row in rows:
        seen[row] = seen.get(row, 0) + 1
        yield (*row, seen[row])


ADDING = ("spurious_codes", "copy_forward", "duplicate_visit")
WRITING = ("code_coarsen", "sibling_swap", "system_change", "local_codes")


@given(
    drawn=st.lists(visits, min_size=1, max_size=4), name=st.sampled_from((*REMOVE, "rare_code_loss", *ADDING, *WRITING))
)
@settings(max_examples=20, deadline=None, phases=DRAWN)
def test_edits_are_nested(book, drawn, name):
    whole = events(*(record(at, own) for at, own in enumerate(drawn)))
    frame = gather(whole.lazy(), asked(*range(len(drawn))), gap_days=30)
    before = frozenset()
    for severity in (1, 2, 4, 5):
        now = edits(name, frame, severity, book)
        assert before <= now
        before = now


@given(drawn=visits)
@settings(max_examples=3, deadline=None, phases=DRAWN)
def test_dates_move_further_and_visits_stay_merged(book, drawn):
    frame = gather(events(record(1, drawn)).lazy(), asked(1), gap_days=30)
    plain = frame.filter(pl.col("code") == "VISIT//OP//START")["time"].sort()
    starts, moved = [], []
    first, last = frame["time"].min(), NOW
    for severity in range(1, 6):
        jittered = run("date_jitter", frame, severity, book)
        # By visit and in either direction; what the birth or the prediction time holds back is left out here.
        times = jittered.filter(pl.col("code") == "VISIT//OP//START")["time"].sort()
        moved.append(
            times.filter((times > first) & (times < last)).len() and (times - plain).dt.total_days().abs().sum()
        )
        merged = run("visit_merge", frame, severity, book)
        starts.append(merged.filter(pl.col("code") == "VISIT//OP//START")["time"].to_list())
    assert moved[0] <= moved[4] or len(plain) > 1
    for fewer, more in zip(starts[1:], starts, strict=False):
        assert set(fewer) <= set(more)
    shuffled = run("code_order_shuffle", frame, 5, book)
    assert sorted(shuffled["code"]) == sorted(frame["code"])
    assert shuffled["time"].equals(frame["time"])


def test_shares_are_those_of_the_level(book):
    many = events(*(record(at, [(10 * visit + 1, CODES) for visit in range(20)]) for at in range(60)))
    frame = gather(many.lazy(), asked(*range(60)), gap_days=30)
    coded = int(frame["coded"].sum())
    for severity, level in enumerate(TEST["code_dropout"].levels, start=1):
        lost = len(frame) - len(run("code_dropout", frame, severity, book))
        assert lost / coded == pytest.approx(level, abs=0.02)
        added = len(run("spurious_codes", frame, severity, book)) - len(frame)
        assert added / coded == pytest.approx(TEST["spurious_codes"].levels[severity - 1], rel=0.1)
    outage = run("modality_outage", frame, 5, book)
    labs = outage.filter(pl.col("code").str.starts_with("LOINC//"))["subject_id"].n_unique()
    drugs = outage.filter(pl.col("code").str.starts_with("ATC//"))["subject_id"].n_unique()
    assert labs + drugs == 60
    assert 15 < labs < 45
    aged = run("age_error", frame, 5, book).filter(pl.col("code") == BIRTH)["time"]
    born = frame.filter(pl.col("code") == BIRTH)["time"]
    assert 7 < (aged - born).dt.total_days().std() / 365.25 < 13


def test_what_is_written_in_place_of_a_code(book):
    frame = gather(events(record(1, [(5, CODES)])).lazy(), asked(1), gap_days=30)

    def after(name):
        found = run(name, frame, 5, book).filter(pl.col("code").str.contains("//"))["code"].to_list()
        return [code for code in found if not code.startswith(("SEX", "VISIT", "LOINC", "LOCAL//LOINC"))]

    coarse = ["ICD10CM//E11", "ICD10CM//E11", "ICD10CM//I10", "ICD10CM//I50", "ICD10CM//I50", "ATC//C03CA01"]
    assert after("code_coarsen") == coarse
    swapped = after("sibling_swap")
    assert swapped[2] == "ICD10CM//I10"
    assert all(code in CODES for code in swapped)
    assert after("system_change") == [CODES[0], NOWHERE, CODES[2], CODES[3], NOWHERE, CODES[5]]
    own = [f"LOCAL//{code}" if book.codes.filter(code=code)["chance"][0] < 0.4 else code for code in CODES]
    assert after("local_codes") == own
    assert own != CODES


def test_what_a_cohort_cannot_express_is_said():
    plain = events(record(1, [(5, ["SNOMED//1", "SNOMED//2"])])).filter(~pl.col("code").str.starts_with("LOINC"))
    names, others = applicable(Codebook.fit(plain.lazy()))
    assert set(others) == {"code_coarsen", "sibling_swap", "system_change", "modality_outage"}
    assert others["system_change"] == "no ICD code"
    assert len(names) == 11
    frame = gather(plain.lazy(), asked(1), gap_days=30)
    with pytest.raises(ValueError, match="sibling_swap is not applicable: no two ICD codes"):
        run("sibling_swap", frame, 1, Codebook.fit(plain.lazy()))
    with pytest.raises(ValueError, match="no corruption lost; expected one of code_dropout"):
        find("lost")
    with pytest.raises(ValueError, match="severity is 6"):
        run("code_dropout", frame, 6, Codebook.fit(plain.lazy()))


def test_a_map_of_codes_needs_its_columns():
    with pytest.raises(ValueError, match="code map: no column icd_9; expected icd_9 and icd_10"):
        Codebook.fit(events(record(1, [(5, CODES)])).lazy(), pl.DataFrame({"icd_10": ["I10"]}))


def test_a_subject_asked_twice_has_two_records(book):
    whole = events(record(1, [(100, CODES[:2]), (10, CODES[2:])]))
    index = pl.concat([asked(1, back=50), asked(1)])
    frame = gather(whole.lazy(), index, gap_days=30)
    assert frame.columns == FRAME.names()
    assert frame.group_by("prediction_time").len().sort("prediction_time")["len"].to_list() == [7, 14]
    # What is drawn for an event is the same in both.
    dropped = run("code_dropout", frame, 5, book)
    early = dropped.filter(pl.col("prediction_time") == NOW - 50 * DAY).drop("prediction_time")
    late = dropped.filter((pl.col("prediction_time") == NOW) & (pl.col("time").fill_null(NOW) <= NOW - 50 * DAY))
    assert set(early.filter(pl.col("time").is_not_null()).rows()) == set(late.drop("prediction_time").rows())
