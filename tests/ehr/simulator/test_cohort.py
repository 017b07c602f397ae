"""Simulated records: the same whoever draws them, and in order."""

from itertools import pairwise

import polars as pl
import pytest

from ehr.codes import match
from ehr.events import BIRTH, DEATH, EVENTS, first_inversion
from ehr.simulator import blocks, cohort, records
from ehr.simulator.cohort import Span
from ehr.simulator.course import BLOCK
from ehr.simulator.diseases import LATENCY_DAYS
from ehr.simulator.graph import DISEASES, INDEX
from ehr.simulator.truth import GAP_DAYS, HORIZONS_DAYS
from tests.ehr.simulator.conftest import SEED


def test_equal_seeds_give_equal_records(small):
    again = cohort.cohort(1_500, seed=SEED)
    assert again[0].equals(small[0])
    assert again[1].equals(small[1])
    other = cohort.cohort(1_500, seed=SEED + 1, with_truth=False)
    assert not other[0].equals(small[0])


def test_records_do_not_hang_on_who_draws_them(small, shards):
    """Blocks drawn apart, and a larger cohort, hold the same patients."""
    first = pl.concat(shards[:2]).filter(pl.col("subject_id") < 1_500)
    assert first.equals(small[0])
    second, _ = cohort.draw(Span(1, 2, 1_500), seed=SEED, with_truth=False)
    assert second.equals(small[0].filter(pl.col("subject_id") >= BLOCK))


def test_truth_is_left_out_where_it_is_not_asked_for(small):
    events, risks = cohort.cohort(1_500, seed=SEED, with_truth=False)
    assert events.equals(small[0])
    assert risks.is_empty()
    assert risks.schema == small[1].schema


def test_the_order_is_canonical(small):
    events, _ = small
    assert events.schema == EVENTS
    assert first_inversion(events) is None
    assert events["subject_id"].unique().sort().to_list() == list(range(1_500))
    assert events["code"].null_count() == 0


def test_nothing_is_before_birth_or_after_death(shards):
    events = pl.concat(shards)
    birth = events.filter(pl.col("code") == BIRTH).select("subject_id", birth="time")
    death = events.filter(pl.col("code") == DEATH).select("subject_id", death="time")
    assert birth.height == len(shards) * BLOCK
    assert 0.05 * birth.height < death.height < 0.3 * birth.height
    assert not death["subject_id"].is_duplicated().any()
    dated = events.drop_nulls("time").join(birth, on="subject_id").join(death, on="subject_id", how="left")
    assert (dated["time"] >= dated["birth"]).all()
    assert (dated["time"] <= dated["death"]).all()
    last = events.group_by("subject_id", maintain_order=True).last()
    assert last.join(death, on="subject_id").filter(pl.col("code") != DEATH).is_empty()


def test_static_facts_come_first(small):
    events, _ = small
    static = events.filter(pl.col("time").is_null())
    assert static.height == 2 * 1_500
    assert static["code"].str.starts_with("SEX//").sum() == 1_500
    assert static["code"].str.starts_with("SITE//").sum() == 1_500


def test_stays_begin_and_end_as_often(small):
    visits = small[0].filter(pl.col("code").str.starts_with("VISIT//"))
    counts = dict(visits.group_by("code").len().iter_rows())
    for kind in ("OP", "IP"):
        assert counts[f"VISIT//{kind}//START"] == counts[f"VISIT//{kind}//END"] > 0


def test_values_stand_with_labs_alone(small):
    events, _ = small
    has = events.filter(pl.col("numeric_value").is_not_null())
    assert has["code"].str.starts_with("LOINC//").all()
    assert has.height == events["code"].str.starts_with("LOINC//").sum()
    assert has["numeric_value"].is_finite().all()
    held = {disease.lab.code: disease.lab for disease in DISEASES if disease.lab}
    for code, lab in held.items():
        values = has.filter(pl.col("code") == code)["numeric_value"]
        assert values.is_between(lab.low - 1e-3, lab.high + 1e-3).all()


def test_codes_say_one_thing():
    """The oracle reads a symptom as a symptom: nothing else writes its code; no disease shares a code."""
    symptoms = [disease.symptom for disease in DISEASES]
    diagnoses = [code for disease in DISEASES for code in disease.codes]
    labs = [disease.lab.code for disease in DISEASES if disease.lab] + [lab.code for lab in records.NOISE_LABS]
    for codes in (symptoms, diagnoses, labs):
        assert len(set(codes)) == len(codes)
    others = {*records.MINOR_CODES, *records.EMERGENCY_CODES}
    assert not others & {*symptoms, *diagnoses}
    assert not set(symptoms) & set(diagnoses)
    # Patterns take children too: a disease's patterns match its own codes alone.
    for disease in DISEASES:
        hit = {code for code, is_hit in zip(records.CODES, match(records.CODES, disease.codes), strict=True) if is_hit}
        assert hit == set(disease.codes)


def test_the_graph_runs_one_way_and_slowly():
    for disease in DISEASES:
        assert all(INDEX[name] < INDEX[disease.name] for name in disease.raised_by)
    assert GAP_DAYS + max(HORIZONS_DAYS) < LATENCY_DAYS


def test_a_disease_raises_the_rate_of_its_followers(drawn):
    """Heart failure after coronary artery disease, against a direct count of person-years."""
    ratios = []
    for name, cause in (("copd", "smoking_dependence"), ("chronic_kidney_disease", "type_2_diabetes")):
        ill, healthy = [0.0, 0.0], [0.0, 0.0]
        for block in drawn:
            course = block.course
            since = course.diagnosis[:, INDEX[cause]] + LATENCY_DAYS
            begin, end = course.people.entry, course.end
            onset = course.onset[:, INDEX[name]]
            stop = onset.clip(max=end)
            ill[0] += ((onset > since) & (onset <= end)).sum()
            ill[1] += (stop - since.clip(min=begin)).clip(min=0).sum()
            healthy[0] += ((onset <= since) & (onset <= end)).sum()
            healthy[1] += (stop.clip(max=since) - begin).clip(min=0).sum()
        ratios.append((ill[0] / ill[1]) / (healthy[0] / healthy[1]))
    assert min(ratios) > 1.5


def test_codes_are_described_and_have_parents(small):
    table = cohort.codes()
    assert set(small[0]["code"]) <= set(table["code"])
    assert table["description"].null_count() == 0
    parents = dict(table.select("code", "parent_codes").iter_rows())
    assert parents["ICD10CM//E11.65"] == ["ICD10CM//E11"]
    assert parents["SEX//F"] == []


@pytest.mark.parametrize(
    ("patients", "files"), [(1, 1), (1_000, 1), (12_000, 1), (12_001, 2), (20_000, 2), (40_000, 4)]
)
def test_files_hold_every_block_once(patients, files):
    spans = cohort.spans(patients)
    assert len(spans) == files
    assert spans[0].first == 0
    assert spans[-1].last == -(-patients // BLOCK)
    assert all(a.last == b.first < b.last for a, b in pairwise(spans))


@pytest.mark.parametrize(("patients", "seed"), [(0, 1), (-5, 1), (10**12, 1), (10, -1), (10, 2**63)])
def test_what_cannot_be_drawn_is_refused(patients, seed):
    with pytest.raises(ValueError, match=r"--(patients|seed) is .*; expected"):
        cohort.cohort(patients, seed=seed)


def test_a_file_holds_about_a_million_events(shards):
    events = sum(len(shard) for shard in shards) / len(shards) * cohort.FILE_BLOCKS
    assert 0.7e6 < events < 1.4e6


def test_blocks_do_not_repeat():
    assert not (blocks.draw(1, 0).course.people.birth == blocks.draw(1, 1).course.people.birth).all()
