"""`anamnesis rethink patients`: probabilities from sampled futures, weighed by retrieved evidence, with cards."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pipelines import artefacts
from pipelines.cohort import Cohort, open_cohort
from pipelines.progress import say
from pipelines.rethink.patients import fitting, gathering
from pipelines.rethink.patients.asking import Asked, asked_of
from pipelines.rethink.patients.cards import Shown, cards, categories, rows_of
from pipelines.rethink.patients.cases import Stored, World, cases_of
from pipelines.rethink.patients.fitting import FIT, Fit
from pipelines.rethink.patients.gathering import Model
from pipelines.rethink.patients.report import page, summary
from pipelines.rethink.patients.scoring import scored
from pipelines.rethink.patients.settings import Rethinking, configured

EXAMPLES = """examples:
  anamnesis rethink patients generator/ cohort/ rethought/ --patients 200
  anamnesis rethink patients generator/ cohort/ rethought/ --config configs/rethink/patients.yaml
  anamnesis rethink patients generator/ cohort/ again/ --stored rethought/              the same, without drawing
  anamnesis rethink patients generator/ elsewhere/ others/ --fitted rethought/          nothing is fitted there
"""
KIND, REPORT, PAGE, CARDS, PROBABILITIES = (
    "rethought-patients",
    "report.json",
    "report.html",
    "cards.jsonl",
    "probabilities.parquet",
)
FITTING = ("tuning", "calibration")
RESAMPLES = 1000
Json = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is asked of one run."""

    split: str = "held_out"
    """Whose futures are drawn."""
    patients: int | None = None
    """How many of them, at most; all where None."""
    stored: Path | None = None
    """Folder of an earlier run, whose futures and neighbours are used again."""
    fitted: Path | None = None
    """Folder of an earlier run, whose temper and calibration are used as they are."""
    show_neighbour_ids: bool = False
    """Whether cards name neighbours."""
    overwrite: bool = False
    """Whether a folder that stands there is replaced."""

    def __post_init__(self) -> None:
        """Refuse what cannot be run.

        Raises:
            ValueError: a number is out of range, or patients would be scored by what was fitted on them.
        """
        if self.patients is not None and self.patients < 1:
            raise ValueError(f"--patients is {self.patients}; expected 1 or more")
        if self.split in FITTING and self.fitted is None:
            raise ValueError(f"--split is {self.split}, on which is fitted; name another, or give --fitted")


def rethink(run: Path, at: Path, target: Path, settings: Rethinking, plan: Plan) -> Json:
    """Answer patients, write what was found, and return the report.

    Args:
        run: a run that was trained to generate.
        at: a cohort.
        target: folder to be made.
        settings: how; an earlier run's own where `plan.fitted` is given.
        plan: who, and from what.

    Raises:
        ValueError: what was given does not fit together.
    """
    artefacts.refuse_existing(target, overwrite=plan.overwrite)
    cohort = open_cohort(at)
    model = gathering.model_of(run, cohort)
    known = fitting.load(plan.fitted) if plan.fitted else None
    settings = known.settings if known else settings
    world, left = gathering.world_of(cohort, model, settings)
    if known:
        check(known, world, cohort)
    parts = {plan.split: gathering.chosen(asked_of(cohort, plan.split, world.slots), plan.patients, settings.seed)}
    for split in () if known else FITTING:
        own = gathering.latest(asked_of(cohort, split, world.slots))
        parts[split] = gathering.chosen(own, settings.fitting, settings.seed)
    divided = {split: gathering.divided(asked, world.source) for split, asked in parts.items()}
    samples = {split: gathering.samples_of(pair[0], world.source, model.max_length) for split, pair in divided.items()}
    if plan.stored:
        stored = gathering.read(plan.stored).first(settings.samples)
    else:
        stored = gathering.gathered(model, [one for own in samples.values() for one in own], world, settings)
    cases = {split: cases_of(divided[split][0], samples[split], stored, world, settings) for split in parts}
    made = known or fitting.fit(
        (cases["tuning"], divided["tuning"][0].label, cases["calibration"], divided["calibration"][0].label),
        world.slots,
        settings,
        cohort.vocabulary.digest,
    )
    asked, silent = divided[plan.split]
    found = fitting.answers(cases[plan.split], world.slots, made)
    arms = fitting.arms_of(cases[plan.split], world.slots, made) if found else {}
    evaluated = scored(arms, asked, world.slots, resamples=RESAMPLES, seed=settings.seed) if found else {}
    shown = Shown(
        rows_of(cohort, asked.subject.tolist()),
        cohort.vocabulary,
        world.step,
        categories(cohort.vocabulary),
        world.slots,
        settings,
        world.pool.asked.subject,
        plan.show_neighbour_ids,
    )
    dealt = [cards(answer, shown) for answer in found]
    report = told(found, silent, made, world, left) | {"split": plan.split, "evaluation": evaluated}
    with artefacts.build(target, overwrite=plan.overwrite) as folder:
        write(folder, report, dealt, stored, made)
        fitting.probabilities(found, silent, world.slots).write_parquet(folder / PROBABILITIES)
        artefacts.write_manifest(folder, KIND, **stated(cohort, model, made, len(found)))
    return report


def check(known: Fit, world: World, cohort: Cohort) -> None:
    """Refuse a fit of other windows or tokens.

    Raises:
        ValueError: it is of others.
    """
    if known.vocabulary != cohort.vocabulary.digest:
        raise ValueError(f"--fitted: was fitted with another vocabulary than {cohort.path} has; fit again")
    if known.windows != [(slot.outcome, slot.horizon_days) for slot in world.slots]:
        raise ValueError(f"--fitted: was fitted on other outcomes than {cohort.path} has; fit again")


def told(found: Sequence[fitting.Answer], silent: Asked, made: Fit, world: World, left: dict[str, str]) -> Json:
    """Return the report but for its evaluation."""
    weights = [answer.weights for answer in found]
    return {
        "patients": len({answer.case.sample.subject for answer in found}),
        "prediction_times": len(found),
        "without_history": len(silent.subject),
        "futures_each": made.settings.samples,
        "window_days": world.days,
        "pool": len(world.pool.asked.subject),
        "neighbours_each": made.settings.neighbours,
        "fitted_on": made.counts,
        "temper": made.tuned.temper,
        "mixture_share": made.tuned.share,
        "floor": made.settings.floor,
        "effective_size": float(np.mean([held.size for held in weights])) if weights else None,
        "tempers_lowered": sum(held.lowered for held in weights),
        "abstained": sum(answer.abstain for answer in found) + len(silent.subject),
        "contradicted_futures": sum(int((~answer.case.futures.allowed).sum()) for answer in found),
        "scope_above_one": sum(int((answer.case.scope > 1).sum()) for answer in found),
        "left_out": left,
        "settings": made.settings.content(),
    }


def stated(cohort: Cohort, model: Model, made: Fit, patients: int) -> Json:
    """Return what the manifest states."""
    return {
        "cohort": artefacts.digest(cohort.path / artefacts.MANIFEST),
        "vocabulary": made.vocabulary,
        "parameters": model.network.num_parameters(),
        "prediction_times": patients,
        "settings": made.settings.content(),
    }


def write(folder: Path, report: Json, dealt: Sequence[Sequence[Json]], stored: Stored, made: Fit) -> None:
    """Write reports, cards, the fit, and the tables they come from."""
    artefacts.write_json(folder / REPORT, report)
    artefacts.write_json(folder / FIT, made.content())
    artefacts.write_bytes(folder / PAGE, page(report, dealt).encode())
    lines = [json.dumps(card, ensure_ascii=False, sort_keys=True) + "\n" for own in dealt for card in own]
    artefacts.write_bytes(folder / CARDS, "".join(lines).encode())
    gathering.write(stored, folder)


def parser() -> argparse.ArgumentParser:
    """Return the command's arguments."""
    made = argparse.ArgumentParser(
        "anamnesis rethink patients",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("run", type=Path, help="run that was trained to generate (model.objective permuted_ce)")
    made.add_argument("cohort", type=Path, help="what anamnesis prepare made, with labels")
    made.add_argument("output", type=Path, help="folder to be made")
    made.add_argument("--split", default="held_out", help="patients to answer (default: held_out)")
    made.add_argument("--patients", type=int, help="how many of them, chosen by a hash (default: all)")
    made.add_argument("--config", type=Path, help="settings, YAML (default: configs/rethink/patients.yaml's)")
    made.add_argument("--samples", type=int, help="futures a patient (default: as in the settings)")
    made.add_argument("--stored", type=Path, help="folder of an earlier run: use its futures and neighbours again")
    made.add_argument("--fitted", type=Path, help="folder of an earlier run: use its temper and calibration")
    made.add_argument("--show-neighbour-ids", action="store_true", help="name similar patients on cards")
    made.add_argument("--overwrite", action="store_true", help="replace a folder that stands there")
    return made


def main(argv: Sequence[str]) -> int:
    """Run the command."""
    given = parser().parse_args(argv)
    if given.stored is not None and given.config is not None:
        raise ValueError("--config: what --stored holds was drawn with settings of its own, which hold; leave it out")
    settings = fitting.load(given.stored).settings if given.stored else configured(given.config)
    if given.samples is not None:
        settings = replace(settings, samples=given.samples)
    plan = Plan(
        split=given.split,
        patients=given.patients,
        stored=given.stored,
        fitted=given.fitted,
        show_neighbour_ids=given.show_neighbour_ids,
        overwrite=given.overwrite,
    )
    found = rethink(given.run, given.cohort, given.output, settings, plan)
    summary(found)
    say(f"{given.output}: {found['patients']:,} patients; evidence in {given.output / PAGE}")
    return 0
