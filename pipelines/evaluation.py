"""One evaluation: answers, scores, subgroups, and the folder that holds them."""

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from ehr import calibration, events, predictions
from ehr.metrics.resampling import Draws, draw
from ehr.metrics.scores import MACRO, Slot, slot, table
from ehr.metrics.subgroups import by_group
from ehr.report.page import Content, render
from pipelines import artefacts, gates
from pipelines import release as releases
from pipelines.answering import Answers, Match, Model, ask, match, open_model
from pipelines.cohort import Cohort, open_cohort
from pipelines.contest import contest, labelled
from pipelines.facts import facts, learning_curves
from pipelines.groups import groups
from pipelines.progress import Track
from pipelines.recalibration import SPLIT, recalibrate
from pipelines.samples import Questions, questions_of

OURS, RELEASED = "anamnesis", "as_released"
FITTED = ("train", "tuning", "calibration")
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Settings of one evaluation."""

    split: str = "held_out"
    """Whose patients are asked."""
    baselines: bool = True
    """Whether logistic regression and gradient boosting are fitted beside."""
    bootstrap: int = 1000
    """Resamples of patients."""
    seed: int = 0
    """Of the resamples."""
    recalibrate: Path | None = None
    """The release to write with a calibration fitted on the cohort."""
    overwrite: bool = False
    """Replace what stands there."""

    def __post_init__(self) -> None:
        """Refuse what cannot be done."""
        if not 1 <= self.bootstrap <= 100_000:
            raise ValueError(f"--bootstrap {self.bootstrap}: expected 1 to 100,000 resamples")
        if self.seed < 0:
            raise ValueError(f"--seed {self.seed}: expected 0 or more")
        if self.recalibrate and self.split == SPLIT:
            raise ValueError(f"--split {SPLIT}: is what --recalibrate fits on; evaluate on another split")


class Answered(NamedTuple):
    """What all models say.

    Attributes:
        asked: N questions.
        ours: probabilities f32 [N, K, H] in the model's axes.
        age_years: f64 [N].
        slots: outcomes and horizons measured.
        scores: SCORES.
        draws: resamples of patients.
        models: names, the one evaluated first.
        probability: by model, f32 [N, K, H] in the cohort's axes.
    """

    asked: Questions
    ours: Floats
    age_years: npt.NDArray[np.float64]
    slots: list[Slot]
    scores: pl.DataFrame
    draws: Draws
    models: list[str]
    probability: dict[str, Floats]


def evaluate(model: Path, cohort: Path, report: Path, plan: Plan | None = None) -> dict[str, Any]:
    """Evaluate a run or a release on a cohort, write the report and return its manifest.

    Args:
        model: a fine-tuned run or a release.
        cohort: with labels.
        report: folder to be made.
        plan: settings.

    Raises:
        ValueError: bad input or setting; nothing is left behind.
    """
    plan = plan or Plan()
    refuse_targets(model, cohort, report, plan)
    opened, held = open_model(model), open_cohort(cohort)
    if plan.recalibrate and opened.kind != "release":
        raise ValueError(f"{model}: is a run; --recalibrate takes a release: make one with anamnesis export")
    matches, notes = match(opened.registry, held.registry)
    asked = questions_of(held, plan.split)
    # Great Expectations takes seconds to import; the models answer meanwhile.
    importing = threading.Thread(target=gates.preload, daemon=True)
    importing.start()
    fitted, kept = opened.calibration, list[str]()
    if plan.recalibrate:
        fitted, kept = recalibrate(opened, held, matches)
        if kept:
            notes.append(f"Not recalibrated for want of 10 positives: {', '.join(kept)}.")
    notes += remarks(opened, held, plan)
    answered = answer(opened, held, asked, matches, fitted, plan)
    importing.join()
    with artefacts.build(report, overwrite=plan.overwrite) as folder:
        write_tables(folder, opened, held, answered)
        write_page(folder, opened, held, answered, matches, plan, notes)
        manifest = write_manifest(folder, opened, held, answered, plan, notes)
        if plan.recalibrate:
            # Before the report gets its name: there are both, or neither.
            facts_of_fit = {"cohort": artefacts.digest(cohort / artefacts.MANIFEST), "split": SPLIT, "kept": kept}
            source = releases.open_release(model, trusted=True)
            releases.recalibrated(source, fitted, plan.recalibrate, folder, overwrite=plan.overwrite, **facts_of_fit)
    return manifest


def refuse_targets(model: Path, cohort: Path, report: Path, plan: Plan) -> None:
    """Refuse folders to be made that are read from, are one and the same, or hold something else.

    Raises:
        ValueError: which, and what to do.
    """
    taken = {model.resolve(): "the model itself", cohort.resolve(): "the cohort itself"}
    for target, kind in ((report, "report"), (plan.recalibrate, "release")):
        if target is None:
            continue
        if target.resolve() in taken:
            raise ValueError(f"{target}: is {taken[target.resolve()]}; name another folder for the {kind}")
        taken[target.resolve()] = "the report too"
        artefacts.refuse_existing(target, overwrite=plan.overwrite)
        held = artefacts.kind_of(target)
        if held not in (None, kind):
            raise ValueError(f"{target}: holds a {held}, which --overwrite does not replace by a {kind}; name another")


def remarks(model: Model, cohort: Cohort, plan: Plan) -> list[str]:
    """Return what a reader must know of this evaluation."""
    notes: list[str] = []
    if model.vocabulary.digest != cohort.vocabulary.digest:
        notes.append("The cohort was prepared with another vocabulary; its events were read with the model's.")
    if plan.split in FITTED and trained_on(model) == artefacts.digest(cohort.path / artefacts.MANIFEST):
        notes.append(f"The split {plan.split} had a part in training: these scores are too good.")
    elif plan.split in FITTED:
        notes.append(
            f"The split {plan.split} is one that is fitted on: these scores are too good for the baselines, and for "
            "the model where it learnt from these patients."
        )
    if plan.recalibrate:
        notes.append("Probabilities were recalibrated on the cohort's calibration split.")
    if plan.baselines and not labelled(cohort, "train"):
        notes.append("The cohort has no labelled training split, so there are no baselines.")
    return notes


def trained_on(model: Model) -> str:
    """Return the digest of the cohort that a model was trained on."""
    origin = model.manifest if model.kind == "run" else model.manifest["trained_on"]
    return str(origin["cohort"])


def answer(
    model: Model,
    cohort: Cohort,
    asked: Questions,
    matches: list[Match],
    fitted: calibration.Calibration,
    plan: Plan,
) -> Answered:
    """Let all models answer, and measure them."""
    found: Answers = ask(model, cohort, asked, "predicting, samples")
    ours = calibration.apply(fitted, found.logit)
    probability = {OURS: placed(ours, matches, asked)}
    if plan.recalibrate:
        probability[RELEASED] = placed(calibration.apply(model.calibration, found.logit), matches, asked)
    if plan.baselines and labelled(cohort, "train"):
        probability |= contest(cohort, asked, matches)
    draws = draw(asked.subject, (asked.label == 1).any((1, 2)), resamples=plan.bootstrap, seed=plan.seed)
    place, slots = draws.places(asked.subject), list[Slot]()
    with Track("measuring, outcomes and horizons", len(matches)) as bar:
        for held in matches:
            at = (slice(None), *held.cohort)
            given = {name: values[at] for name, values in probability.items()}
            slots.append(slot(held.outcome, held.horizon_days, asked.label[at], given, place, draws))
            bar.advance()
    models = list(probability)
    scores = table(slots, models)
    return Answered(asked, ours, found.age_years, slots, scores, draws, models, probability)


def placed(probability: Floats, matches: list[Match], asked: Questions) -> Floats:
    """Return probabilities in the cohort's axes, NaN where the model does not know an outcome."""
    found = np.full_like(asked.label, np.nan)
    for held in matches:
        found[(slice(None), *held.cohort)] = probability[(slice(None), *held.model)]
    return found


def write_tables(folder: Path, model: Model, cohort: Cohort, answered: Answered) -> None:
    """Write predictions, those of the baselines, and scores; the gates on predictions are held."""
    asked, patient = answered.asked, patients(cohort, answered.asked)
    made = predictions.tabulate(asked.subject, patient, asked.time, answered.ours, model.registry, model=model.digest)
    gates.hold_predictions(folder, made)
    predictions.write(made, folder / "predictions.parquet")
    others = [
        predictions.tabulate(asked.subject, patient, asked.time, values, cohort.registry, model=name)
        for name, values in answered.probability.items()
        if name not in (OURS, RELEASED)
    ]
    if others:
        frame = pl.concat(others).filter(pl.col("probability").is_not_nan())
        predictions.write(frame, folder / "baselines.parquet")
    events.write(answered.scores, folder / "scores.parquet")
    answered.scores.write_csv(folder / "scores.csv", float_precision=6)


def patients(cohort: Cohort, asked: Questions) -> pl.Series:
    """Return the source's own patient id of each question."""
    held = pl.read_parquet(cohort.path / "patients.parquet").sort("subject_id")
    return held["patient"].gather(np.searchsorted(held["subject_id"].to_numpy(), asked.subject))


def write_page(
    folder: Path,
    model: Model,
    cohort: Cohort,
    answered: Answered,
    matches: list[Match],
    plan: Plan,
    notes: list[str],
) -> None:
    """Write report.html and the table of subgroups behind it."""
    asked = answered.asked
    known = [np.flatnonzero(~np.isnan(asked.label[(slice(None), *held.cohort)])) for held in matches]
    parts = groups(cohort, asked.subject, answered.age_years)
    subgroups = by_group(answered.slots, known, parts, OURS, answered.draws)
    subgroups.write_csv(folder / "subgroups.csv", float_precision=6)
    content = Content(
        title=f"Anamnesis on {len(answered.draws.subject):,} patients ({plan.split.replace('_', '-')})",
        facts=facts(model, cohort, asked, plan.bootstrap, plan.seed),
        notes=notes,
        models=answered.models,
        slots=answered.slots,
        scores=answered.scores,
        subgroups=subgroups,
        curves=learning_curves(model),
        attrition=pl.read_parquet(cohort.path / "attrition.parquet"),
        prevalence=pl.read_parquet(cohort.path / "prevalence.parquet"),
    )
    with Track("drawing, outcomes and horizons", len(answered.slots)) as bar:
        page = render(content, bar.advance)
    artefacts.write_bytes(folder / "report.html", page.encode())


def write_manifest(
    folder: Path, model: Model, cohort: Cohort, answered: Answered, plan: Plan, notes: list[str]
) -> dict[str, Any]:
    """Write the manifest of a report."""
    macro = answered.scores.filter(outcome=MACRO, metric="auroc")
    return artefacts.write_manifest(
        folder,
        "report",
        model={"kind": model.kind, "digest": model.digest},
        cohort=artefacts.digest(cohort.path / artefacts.MANIFEST),
        split=plan.split,
        patients=len(answered.draws.subject),
        samples=len(answered.asked.subject),
        models=answered.models,
        macro_auroc={row["model"]: row["value"] for row in macro.iter_rows(named=True)},
        estimable=sum(held.estimable for held in answered.slots),
        bootstrap=plan.bootstrap,
        seed=plan.seed,
        recalibrated=plan.recalibrate is not None,
        notes=notes,
    )
