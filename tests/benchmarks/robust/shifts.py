"""robust.shifts.synthea_large.*: error under corruptions that training never saw, with noise in training and without.

Resumable by corruption. Severity 3 of each, the middle one; records are cut to their
latest events before they are corrupted.
"""

import json
from typing import Any

import numpy as np

from ehr.metrics.resampling import draw, interval
from ehr.shifts import score
from ehr.shifts.catalogue import TEST, applicable, corrupt
from ehr.shifts.codebook import Codebook
from ehr.shifts.frame import gather
from pipelines.answering import Model, open_model
from pipelines.robustness.grid import Grid, answered
from pipelines.samples import Questions
from tests.benchmarks.harness import FIGURES, Figure
from tests.benchmarks.robust.records import COHORT, LATEST, index_of, latest, opened, own_events, run_of, training
from tests.benchmarks.robust.records import asked_of as questions

COMMAND = "python -m tests.benchmarks.robust.shifts"
NAME = f"robust.shifts.{COHORT}"
ARMS = ("standard", "noise")
SEVERITIES = (3,)
RESAMPLES, SEED = 1000, 0
KEPT = FIGURES.parent.parent.parent / "runs" / "robust" / COHORT / "answers"


def passes(name: str, made: dict[str, Any]) -> dict[str, list[np.ndarray]]:
    """Return each arm's logits by severity, from their file where there is one; "" is the clean records."""
    path = KEPT / f"{name or 'clean'}.npz"
    if not path.is_file():
        found: dict[str, list[np.ndarray]] = {arm: [] for arm in ARMS}
        for severity in SEVERITIES if name else (0,):
            frame = corrupt(made["frame"].lazy(), name or "code_dropout", severity, seed=SEED, book=made["book"])
            collected = frame.collect()
            for arm in ARMS:
                model: Model = made["models"][arm]
                grid = Grid(model.path, model.path, made["index"], made["book"], None)
                found[arm].append(answered(grid, model, collected, {}).logit)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".partial.npz")
        np.savez(temporary, **{arm: np.stack(held) for arm, held in found.items()})
        temporary.rename(path)
        print(f"{name or 'clean'}: done", flush=True)
    with np.load(path, allow_pickle=False) as held:
        return {arm: list(held[arm]) for arm in ARMS}


def prepare() -> dict[str, Any]:
    """Return models, records and codes."""
    cohort = opened()
    models = {arm: open_model(run_of(arm)) for arm in ARMS}
    asked = questions(cohort, "held_out")
    index = index_of(asked)
    gap = cohort.vocabulary.settings.visit_gap_days
    frame = latest(gather(own_events(cohort, index.lazy().select("subject_id")), index, gap_days=gap), LATEST)
    book = Codebook.fit(training(cohort, 1000))
    return {"models": models, "asked": asked, "index": index, "frame": frame, "book": book}


def main() -> int:
    """Measure and write the figures."""
    made = prepare()
    asked: Questions = made["asked"]
    names, others = applicable(made["book"])
    unseen = [name for name in names if not TEST[name].seen]
    places = score.estimable(asked.label, [(k, 0) for k in range(asked.label.shape[1])])
    draws = draw(asked.subject, (asked.label == 1).any((1, 2)), resamples=RESAMPLES, seed=SEED)
    at = draws.places(asked.subject)

    def auroc(logit: np.ndarray) -> np.ndarray:
        return score.measure(logit, asked.label, places, at, draws).auroc

    answers = {name: passes(name, made) for name in ("", *unseen)}
    measured = {arm: {name: [auroc(one) for one in held[arm]] for name, held in answers.items()} for arm in ARMS}
    clean = {arm: measured[arm].pop("")[0] for arm in ARMS}
    excess = {arm: score.mean_excess(clean[arm], measured[arm]) for arm in ARMS}
    content = {
        arm: {
            "clean": float(clean[arm][0]),
            "excess": float(excess[arm][0]),
            "by_corruption": {name: [float(one[0]) for one in held] for name, held in measured[arm].items()},
        }
        for arm in ARMS
    }
    part = FIGURES / "parts" / f"{NAME}.json"
    part.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    how = (
        f"Network of width 32 from random weights, latest 128 tokens; noise: ehr.shifts.noise.RecordNoise at its "
        f"defaults. {len(unseen)} corruptions that it does not resemble, severity 3; records cut to "
        f"their latest {LATEST} events, {len(places)} estimable outcomes; not applicable: {', '.join(others)}."
    )
    value, lower, upper = interval(excess["noise"] / excess["standard"])
    alone = interval(excess["standard"])
    facts: dict[str, Any] = {"command": COMMAND, "count": len(draws.subject), "seeds": (SEED,)}
    Figure(
        name=f"{NAME}.excess_ratio",
        value=value,
        unit="ratio",
        rival="the same network without noise",
        rival_value=float(excess["standard"][0]),
        lower=lower,
        upper=upper,
        note=f"Excess error {excess['noise'][0]:.4f} against {excess['standard'][0]:.4f} (95 % {alone[1]:.4f} to "
        f"{alone[2]:.4f}): where that interval holds 0 the quotient says nothing. {how}",
        **facts,
    ).write()
    value, lower, upper = interval(clean["noise"] - clean["standard"])
    Figure(
        name=f"{NAME}.clean_auroc_change",
        value=value,
        unit="AUROC",
        rival="the same network without noise",
        rival_value=float(clean["standard"][0]),
        lower=lower,
        upper=upper,
        note=how,
        **facts,
    ).write()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
