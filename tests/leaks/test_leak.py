"""What happens after the prediction time changes no score by one bit, in any format."""

from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest

from tests.chain import command
from tests.leaks import formats
from tests.leaks.formats import Fact, Patient

PATIENTS = 200
KINDS = ("condition", "lab", "visit", "death")
CODES = ("I10", "E11.9", "N18.3", "I50.9", "Z00.0", "J06.9", "M54.5", "R05")
FORMATS = {
    "meds": formats.meds,
    "omop": formats.omop,
    "fhir": formats.fhir,
    "mimic": formats.mimic,
    "table": formats.table,
}


def invent(draw):
    """Return patients, what happened to them, and when each is to be scored."""
    patients, facts, times = [], [], {}
    for number in range(1, PATIENTS + 1):
        birth = datetime(1940, 1, 1) + timedelta(days=int(draw.integers(0, 15_000)))
        patients.append(Patient(number, "FM"[int(draw.integers(2))], birth))
        time = datetime(2005, 1, 1) + timedelta(minutes=int(draw.integers(0, 2_000_000)))
        first = time
        for _ in range(int(draw.integers(2, 6))):
            end = time + timedelta(hours=int(draw.integers(1, 200)))
            facts.append(Fact(number, "visit", time, "IP" if draw.random() < 0.5 else "OP", end=end))
            codes = draw.choice(CODES, size=int(draw.integers(1, 4)), replace=False).tolist()
            facts += [Fact(number, "condition", time + (end - time) * float(draw.random()), code) for code in codes]
            facts.append(Fact(number, "lab", time + (end - time) / 2, "718-7", round(float(draw.normal(12, 2)), 1)))
            time = end + timedelta(days=int(draw.integers(5, 400)))
        # Anywhere in the record, inside an encounter too.
        times[number] = first + (time - first) * float(draw.uniform(0.1, 1))
    return patients, whole_seconds(facts), {who: at.replace(microsecond=0) for who, at in times.items()}


def whole_seconds(facts):
    return [fact._replace(time=fact.time.replace(microsecond=0)) for fact in facts]


def future(draw, times, kinds=KINDS):
    """Return one thing for each patient that happens after its prediction time: sometimes a second after."""
    found = []
    for number, at in times.items():
        wait = timedelta(seconds=1) if draw.random() < 0.2 else timedelta(minutes=int(draw.integers(1, 500_000)))
        kind, time = str(draw.choice(kinds)), at + wait
        code = {"condition": str(draw.choice(CODES)), "lab": "718-7", "visit": "IP"}.get(kind, "")
        # Values far outside of what is plausible, too.
        end = time + timedelta(hours=int(draw.integers(1, 200))) if kind == "visit" else None
        found.append(Fact(number, kind, time, code, float(draw.choice([9.5, 1e9])) if kind == "lab" else None, end))
    return found


def scores(release, folder, format, tmp_path):
    """Return predictions and who was not scored."""
    target = tmp_path / f"{folder.name}-scores"
    # Visits have other words in some formats than the model's.
    (tmp_path / "quality.yaml").write_text("unknown_codes: 1.0\n")
    words = ["--format", format, "--at", tmp_path / "times.csv", "--quality", tmp_path / "quality.yaml"]
    if format == "table":
        words += ["--columns", tmp_path / "columns.yaml"]
    found = command("score", release, folder, target, *words)
    assert found.returncode in (0, 3), found.stderr
    predicted = pl.concat([pl.read_parquet(path) for path in sorted((target / "predictions").glob("*.parquet"))])
    return predicted.sort("patient", "outcome", "horizon_days"), pl.read_parquet(target / "unscored.parquet")


@pytest.mark.parametrize("format", FORMATS)
def test_the_future_changes_no_bit(chain, format, tmp_path):
    draw = np.random.default_rng(list(FORMATS).index(format))
    patients, facts, times = invent(draw)
    rows = [(number, at) for number, at in times.items()]
    pl.DataFrame(rows, schema=["patient", "prediction_time"], orient="row").write_csv(tmp_path / "times.csv")
    (tmp_path / "columns.yaml").write_text(formats.COLUMNS)
    # A second birth is a line that only MEDS can hold.
    injected = future(draw, times, (*KINDS, "birth") if format == "meds" else KINDS)
    assert len(injected) == PATIENTS
    assert all(fact.time > times[fact.patient] for fact in injected)
    FORMATS[format](patients, facts, tmp_path / "plain")
    FORMATS[format](patients, facts + injected, tmp_path / "injected")
    plain, left_out = scores(chain.release, tmp_path / "plain", format, tmp_path)
    other, also_left_out = scores(chain.release, tmp_path / "injected", format, tmp_path)
    assert plain["subject_id"].n_unique() > 0.9 * PATIENTS
    assert plain["probability"].n_unique() > 100
    assert np.array_equal(
        plain["probability"].to_numpy().view(np.uint32), other["probability"].to_numpy().view(np.uint32)
    )
    assert plain.equals(other)
    assert left_out.equals(also_left_out)


def test_what_happens_before_changes_scores(chain, tmp_path):
    draw = np.random.default_rng(9)
    patients, facts, times = invent(draw)
    rows = [(number, at) for number, at in times.items()]
    pl.DataFrame(rows, schema=["patient", "prediction_time"], orient="row").write_csv(tmp_path / "times.csv")
    before = [Fact(number, "condition", at - timedelta(seconds=1), "I50.9") for number, at in times.items()]
    formats.meds(patients, facts, tmp_path / "plain")
    formats.meds(patients, facts + before, tmp_path / "injected")
    plain, _ = scores(chain.release, tmp_path / "plain", "meds", tmp_path)
    other, _ = scores(chain.release, tmp_path / "injected", "meds", tmp_path)
    joined = plain.join(other, on=["patient", "outcome", "horizon_days"])
    assert (joined["probability"] != joined["probability_right"]).mean() > 0.9
