"""Rethinking on patients, whole: what it leaves, that it can be worked out again, and that it sees no future."""

import json
import re

import numpy as np
import polars as pl
import pytest

from ehr.codes import ancestors_of
from pipelines import artefacts
from pipelines.cli import main
from pipelines.cohort import events, splits
from pipelines.rethink.patients import running
from pipelines.rethink.patients.fitting import PROBABILITIES, load
from pipelines.rethink.patients.running import Plan, rethink
from pipelines.rethink.patients.settings import Contradictions, Rethinking, configured
from tests.docs import ROOT
from tests.pipelines.rethink.patients.conftest import SETTINGS, prepare

FILES = (
    "cards.jsonl",
    "fitted.json",
    "futures.parquet",
    "neighbours.parquet",
    "probabilities.parquet",
    "report.html",
    "report.json",
    "values.parquet",
)


def cards_of(folder):
    return [json.loads(line) for line in (folder / "cards.jsonl").read_text().splitlines()]


def same(one, two, names):
    for name in names:
        assert (one / name).read_bytes() == (two / name).read_bytes(), name


def test_what_is_left(made):
    assert sorted(path.name for path in made.out.iterdir()) == sorted([*FILES, "manifest.json"])
    manifest = artefacts.read_manifest(made.out, running.KIND)
    artefacts.verify(made.out, manifest)
    frame = pl.read_parquet(made.out / "probabilities.parquet")
    assert frame.schema == PROBABILITIES
    assert len(frame) == 4 * made.report["prediction_times"]
    for name in ("probability", "uncalibrated", "monte_carlo"):
        assert frame[name].is_between(0, 1).all()
    assert (frame["lower"] <= frame["upper"]).all()
    assert frame["effective_size"].is_between(1, SETTINGS.samples + 1e-9).all()
    assert (frame.filter(~pl.col("abstain"))["effective_size"] >= SETTINGS.floor - 1e-6).all()
    arms = {row["arm"] for row in made.report["evaluation"]["arms"]}
    assert {"Monte-Carlo", "SCOPE", "REACH", "evidence weights", "evidence weights x REACH", "sum of support"} <= arms
    assert {"neighbours alone", "neighbours with Monte-Carlo", "another's neighbours"} <= arms
    # What was fitted is read back as it was.
    told = json.dumps(load(made.out).content(), sort_keys=True)
    assert json.loads(told) == json.loads((made.out / "fitted.json").read_text())


def test_a_rerun_from_what_is_stored_has_the_same_bytes(made, tmp_path):
    words = [made.run, made.cohort, tmp_path / "again", "--stored", made.out]
    assert main(["rethink", "patients", *map(str, words)]) == 0
    same(made.out, tmp_path / "again", [*FILES, "manifest.json"])


def test_temper_0_is_monte_carlo_bit_for_bit(made, tmp_path):
    """The evidence is all there, and weighs nothing."""
    settings = Rethinking(**{**vars(SETTINGS), "tempers": (0.0,)})
    rethink(made.run, made.cohort, tmp_path / "zero", settings, Plan(stored=made.out))
    frame = pl.read_parquet(tmp_path / "zero" / "probabilities.parquet")
    assert (frame["contradicted"] == 0).all()
    assert frame["uncalibrated"].to_list() == frame["monte_carlo"].to_list()
    values = pl.read_parquet(made.out / "values.parquet").with_columns(pl.col("reached").cast(pl.Float64))
    means = values.group_by("subject_id", "outcome").agg(pl.col("reached").sum() / pl.len())
    both = frame.join(means, on=["subject_id", "outcome"])
    assert len(both) == len(frame)
    assert (both["uncalibrated"] == both["reached"]).all()


def test_what_was_fitted_elsewhere_is_used_as_it_is(made, tmp_path):
    """Nothing is fitted again, and held-out patients get the same answers."""
    plan = Plan(fitted=made.out, stored=made.out, show_neighbour_ids=True)
    rethink(made.run, made.cohort, tmp_path / "fitted", Rethinking(), plan)
    same(made.out, tmp_path / "fitted", ["probabilities.parquet", "fitted.json"])
    named = [card["neighbours"]["ids"] for card in cards_of(tmp_path / "fitted")]
    table = pl.read_parquet(made.out / "neighbours.parquet")
    assert all(set(ids) <= set(table["neighbour_id"]) for ids in named)
    assert "ids" not in cards_of(made.out)[0]["neighbours"]


def test_every_cited_row_exists_and_lies_before_the_prediction_time(made, opened):
    cohort, _, _ = opened
    rows = {}
    for (subject,), own in pl.concat([part.collect() for part in events(cohort)]).group_by(["subject_id"]):
        rows[subject] = own.select("time", pl.col("code").cast(pl.String)).rows()
    cited = 0
    for card in cards_of(made.out):
        for future in card["supporting"]:
            assert 0 <= future["future"] < SETTINGS.samples
            assert sum(step["is_event"] for step in future["steps"]) <= 1
            for step in future["steps"]:
                own = step["own_record"]
                for row in [*own["same_code"], *own["same_category"]]:
                    subject, number = map(int, row["row"].split("/"))
                    assert subject == card["subject_id"]
                    time, code = rows[subject][number]
                    assert row["time"] == time.isoformat(timespec="minutes")
                    assert row["time"] < card["prediction_time"]
                    assert row["code"] == code
                    cited += 1
                    kin = {code, *ancestors_of(code)}
                    assert step["code"] in kin if row in own["same_code"] else own["category"] in kin
    assert cited > 15


def test_neighbours_are_training_patients_and_never_the_patient(made, opened, tmp_path):
    cohort, _, _ = opened
    held = splits(cohort)
    train = set(held.filter(pl.col("split") == "train")["subject_id"])
    table = pl.read_parquet(made.out / "neighbours.parquet")
    assert set(table["neighbour_id"]) <= train
    # Asked of training patients themselves, each is left out of her own neighbours.
    plan = Plan(split="train", patients=30, fitted=made.out)
    rethink(made.run, made.cohort, tmp_path / "train", SETTINGS, plan)
    own = pl.read_parquet(tmp_path / "train" / "neighbours.parquet")
    assert own["subject_id"].n_unique() == 30
    assert set(own["subject_id"]) <= train
    assert (own["subject_id"] != own["neighbour_id"]).all()
    assert (own.group_by("subject_id").len()["len"] == SETTINGS.neighbours).all()


def test_events_after_the_prediction_time_change_no_card_and_no_score(made, opened, tmp_path):
    """Patients asked get new events from the prediction time on: the same complaints, and an early death."""
    cohort, _, _ = opened
    asked = splits(cohort).filter(pl.col("split") == "held_out")["subject_id"]
    frame = pl.read_parquet(made.records / "data" / "0.parquet")
    index = pl.lit("2020-01-01").str.to_datetime(time_unit="us")
    late = frame.filter(pl.col("subject_id").is_in(asked.implode()) & (pl.col("time") > index))
    more = late.with_columns(pl.col("time") + pl.duration(minutes=7), code=pl.lit("ICD10CM//J06.9"))
    at_once = late.unique("subject_id").with_columns(
        time=index + pl.duration(minutes=1), code=pl.lit("ICD10CM//L03.90")
    )
    changed = pl.concat([frame, more, at_once]).sort("subject_id", "time", nulls_last=False, maintain_order=True)
    changed = changed.filter(~((pl.col("code") == "ICD10CM//L30.9") & (pl.col("time") > index)
                               & pl.col("subject_id").is_in(asked.implode())))  # fmt: skip
    (tmp_path / "records" / "data").mkdir(parents=True)
    changed.write_parquet(tmp_path / "records" / "data" / "0.parquet")
    prepare(tmp_path / "records", tmp_path / "cohort", "--vocabulary", made.cohort / "vocabulary.json")
    found = rethink(made.run, tmp_path / "cohort", tmp_path / "out", SETTINGS, Plan())
    names = ("cards.jsonl", "futures.parquet", "values.parquet", "neighbours.parquet", "probabilities.parquet")
    same(made.out, tmp_path / "out", [*names, "fitted.json"])
    # The events did come in: what is evaluated is not the same.
    assert found["evaluation"] != made.report["evaluation"]


def test_the_page_says_what_a_card_may_say(made):
    page = (made.out / "report.html").read_text()
    text = re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    assert "because" not in text.lower()
    assert "supports" in text
    assert "<script" not in page
    assert "http" not in page


def test_bad_input_is_refused_in_one_line(made, opened, tmp_path, capsys):
    bad = tmp_path / "bad.yaml"
    bad.write_text("rethinking: {samples: 0}\n")
    cases = [
        ([made.run, made.cohort, tmp_path / "x", "--config", bad], "samples is 0"),
        ([made.run, made.cohort, tmp_path / "x", "--config", tmp_path / "none.yaml"], "no such file"),
        ([made.run, made.cohort, tmp_path / "x", "--split", "tuning"], "on which is fitted"),
        ([made.run, made.cohort, tmp_path / "x", "--split", "nobody"], "no split nobody"),
        ([made.run, made.cohort, tmp_path / "x", "--patients", 0], "expected 1 or more"),
        ([made.cohort, made.cohort, tmp_path / "x"], "expected a run"),
        (
            [made.run, made.cohort, tmp_path / "x", "--stored", made.cohort],
            "not what anamnesis rethink patients fitted",
        ),
        ([made.run, made.cohort, made.out], "already exists"),
    ]
    for words, told in cases:
        assert main(["rethink", "patients", *map(str, words)]) == 2
        said = capsys.readouterr().err
        assert told in said
        assert len(said.strip().splitlines()) == 1
    for wrong in ({"mix": 2.0}, {"value": "reach"}, {"tempers": ()}, {"clip": 0.0}, {"own_windows": -1}):
        with pytest.raises(ValueError, match="expected"):
            Rethinking(**wrong)


def test_the_shipped_settings_are_the_defaults():
    held = configured(ROOT / "configs" / "rethink" / "patients.yaml")
    assert held == Rethinking()
    assert held.contradictions == Contradictions()
    assert np.isclose(held.floor, 30)
