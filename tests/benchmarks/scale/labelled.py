"""How often `anamnesis monitor` finds a planted fault once labels are there, and how often it cries for nothing.

The demo's held-out patients with what came after, divided into halves at random: one is the earlier scoring that is
given as the reference, the other is watched, as it is or with a fault planted. Each division once measured is kept.
"""

import json
from collections.abc import Callable
from functools import partial

import numpy as np
import polars as pl

from ehr.predictions import KEY
from ehr.quality import digest
from ehr.quality.digest import Digest
from pipelines.cohort import labels, open_cohort
from pipelines.digests import INDEX, Digests
from pipelines.monitor.compare import as_reference, measured, watch
from pipelines.monitor.sources import ANSWERS, Seen
from tests.benchmarks.harness import FIGURES, ROOT, Figure

COMMAND = "python -m tests.benchmarks.scale.labelled"
DEMO = ROOT / "runs" / "demo"
PARTS = FIGURES / "parts"
SPLITS, SEED = 24, 5
SLOT = ["outcome", "horizon_days"]


def logit(name: str = "probability") -> pl.Expr:
    """Return the logit of a column of probabilities."""
    held = pl.col(name).cast(pl.Float64).clip(1e-6, 1 - 1e-6)
    return (held / (1 - held)).log()


def with_logit(frame: pl.DataFrame, made: pl.Expr) -> pl.DataFrame:
    """Return the frame with probabilities of other logits."""
    return frame.with_columns((1 / (1 + (-made).exp())).cast(pl.Float32).alias("probability"))


def odds_doubled(frame: pl.DataFrame, _: np.random.Generator) -> pl.DataFrame:
    """Double the odds of each probability: another calibration than the release's."""
    return with_logit(frame, logit() + np.log(2.0))


def overconfident(frame: pl.DataFrame, _: np.random.Generator) -> pl.DataFrame:
    """Move logits away from their mean by half: the same ranking and mean, too sure."""
    return with_logit(frame, logit().mean().over(SLOT) + 1.5 * (logit() - logit().mean().over(SLOT)))


def outcomes_lost(frame: pl.DataFrame, random: np.random.Generator) -> pl.DataFrame:
    """Lose half of the outcomes: what came after is no longer recorded in full."""
    kept = pl.Series(random.random(len(frame)) < 0.5)
    return frame.with_columns(pl.col("boolean_value") & kept)


def patients_exchanged(frame: pl.DataFrame, random: np.random.Generator) -> pl.DataFrame:
    """Give each patient the probabilities of another one: a join gone wrong, which no distribution shows."""
    groups = [
        rows.with_columns(rows["probability"].gather(random.permutation(len(rows))))
        for _, rows in frame.group_by(SLOT, maintain_order=True)
    ]
    return pl.concat(groups)


FAULTS: dict[str, Callable[[pl.DataFrame, np.random.Generator], pl.DataFrame]] = {
    fault.__name__: fault for fault in (odds_doubled, overconfident, outcomes_lost, patients_exchanged)
}


def seen_of(frame: pl.DataFrame) -> Seen:
    """Return patients as monitor reads them from predictions, their records left out."""
    latest = frame.filter(pl.col("prediction_time") == pl.col("prediction_time").max().over("subject_id"))
    answers = latest.select(pl.col("subject_id").cast(pl.String).alias("patient"), *ANSWERS.names()[1:])
    return Seen(INDEX, Digest({}, frame["subject_id"].n_unique()), answers, frame.drop("boolean_value"))


def split(frame: pl.DataFrame, number: int) -> dict[str, list[str]]:
    """Return the kinds of alarm of one division, by fault; `nothing` for the watched half as it is."""
    random = np.random.default_rng([SEED, number])
    subjects = random.permutation(frame["subject_id"].unique().sort().to_numpy())
    halves = [frame.filter(pl.col("subject_id").is_in(part.tolist())).sort(KEY) for part in np.array_split(subjects, 2)]
    earlier = seen_of(halves[0])
    held = as_reference(earlier, Digests("", {}, measured(earlier, halves[0].select(*KEY, "boolean_value"))))
    counted = digest.suppressed(held.moments[INDEX])
    reference = held._replace(moments={INDEX: counted})
    found: dict[str, list[str]] = {}
    for name, fault in {"nothing": None, **FAULTS}.items():
        now = halves[1] if fault is None else fault(halves[1], random)
        watched = watch(reference, seen_of(now), now.select(*KEY, "boolean_value"))
        found[name] = sorted({held.question.kind for held in watched.alarms} | {held.metric for held in watched.worse})
    return found


def main() -> None:
    """Measure both rates; each division once finished is kept."""
    held = open_cohort(DEMO / "cohort")
    known = labels(held).select(*KEY, "boolean_value").drop_nulls("boolean_value")
    frame = pl.read_parquet(DEMO / "report" / "predictions.parquet").join(known, on=KEY, how="inner").sort(KEY)
    kept = PARTS / "monitor.labels.json"
    parts: dict[str, dict[str, list[str]]] = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
    for number in range(SPLITS):
        if str(number) not in parts:
            parts[str(number)] = split(frame, number)
            kept.write_text(json.dumps(parts, indent=1) + "\n", encoding="utf-8")
    hits = {name: sum(bool(part[name]) for part in parts.values()) for name in ("nothing", *FAULTS)}
    for name, number in hits.items():
        kinds = sorted({kind for part in parts.values() for kind in part[name]})
        print(f"{name}: {number} of {SPLITS} divisions raise an alarm: {', '.join(kinds) or 'none'}", flush=True)
    quiet = hits.pop("nothing")
    worst = min(hits, key=lambda name: hits[name])
    about = (
        f"{frame['subject_id'].n_unique():,} held-out patients of the demo divided at random into reference and "
        f"watched, {SPLITS} times; the divisions share patients, so that no interval is given; probabilities and "
        "labels are compared, no records"
    )
    common = partial(Figure, unit="fraction", command=COMMAND, count=SPLITS, seeds=(SEED,))
    told = ", ".join(f"{name} {number}" for name, number in hits.items())
    note = f"the least found of {len(FAULTS)} planted faults, {worst}; {about}; found of {SPLITS} each: {told}"
    common(name="monitor.labels.detection_rate", value=hits[worst] / SPLITS, note=note).write()
    note = f"nothing planted; any alarm at alpha 0.01; {about}"
    common(name="monitor.labels.false_alarm_rate", value=quiet / SPLITS, note=note).write()


if __name__ == "__main__":
    main()
