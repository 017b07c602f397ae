"""One report: the grid of EHR-C, attacks on codes and on embeddings; parts are kept, so that a stopped run goes on."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ehr.events import write
from ehr.metrics.resampling import draw
from ehr.shifts import score
from ehr.shifts.catalogue import SEVERITIES, applicable
from ehr.shifts.codebook import Codebook
from ehr.shifts.frame import gather
from pipelines import artefacts
from pipelines.answering import Model, match, open_model
from pipelines.cohort import Cohort, events, open_cohort, splits
from pipelines.pool import cores, pool
from pipelines.progress import Track
from pipelines.robustness import attacking, page, reference
from pipelines.robustness.grid import Grid, Pass, Task, run
from pipelines.robustness.measuring import Asked, measured, tabulated
from pipelines.samples import Questions, questions_of

SUITES = ("ehr-c", "codes", "embedding")
WORK = "work"
NO_GRADIENTS = "not available: a release has no gradients"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Settings of one report."""

    split: str = "held_out"
    """Whose patients are asked."""
    suites: tuple[str, ...] = SUITES
    """What is measured: ehr-c, codes, embedding."""
    patients: int = 0
    """Of the split, at most, by a draw; 0: all."""
    attacked: int = 100
    """Patients whose codes and embeddings are attacked, at most."""
    bootstrap: int = 200
    """Resamples of patients."""
    seed: int = 0
    """Of corruptions, attacks and resamples."""
    code_map: Path | None = None
    """CSV file of ICD-9 and ICD-10 codes that stand for each other."""
    workers: int = 0
    """Processes; 0: all cores."""
    overwrite: bool = False
    """Replace a report that stands there."""

    def __post_init__(self) -> None:
        """Refuse what cannot be done."""
        unknown = [name for name in self.suites if name not in SUITES]
        if unknown or not self.suites:
            raise ValueError(f"--suite {','.join(unknown) or 'is empty'}: expected of {', '.join(SUITES)}")
        if min(self.patients, self.seed, self.workers) < 0 or self.attacked < 1 or not 1 <= self.bootstrap <= 10_000:
            raise ValueError(
                "expected --patients, --seed and --workers from 0 on, --attacked from 1 on, --bootstrap 1 to 10,000"
            )


def report(path: Path, cohort_path: Path, target: Path, plan: Plan | None = None) -> dict[str, Any]:
    """Measure a run or a release on corrupted and attacked records, write the report and return its manifest.

    Args:
        path: a fine-tuned run (white box) or a release (scores alone).
        cohort_path: with labels.
        target: folder to be made.
        plan: settings.

    Raises:
        ValueError: bad input or setting. What was measured before is kept and taken up by the next run.
    """
    plan = plan or Plan()
    artefacts.refuse_existing(target, overwrite=plan.overwrite)
    model, cohort = open_model(path), open_cohort(cohort_path)
    asked = whom(model, cohort, plan)
    found: dict[str, Any] = {"model": {"kind": model.kind, "digest": model.digest}, "split": plan.split}
    found |= {"patients": len(asked.draws.subject), "samples": len(asked.questions.subject), "seed": plan.seed}
    found["outcomes"] = [f"{held.outcome} ({held.horizon_days} days)" for held in asked.matches]
    with artefacts.build(target, overwrite=plan.overwrite, resume=True) as folder:
        tables: dict[str, pl.DataFrame] = {}
        if "ehr-c" in plan.suites:
            found["ehr_c"], tables["passes"] = shifts(folder, model, cohort, asked, plan)
        if {"codes", "embedding"} & set(plan.suites):
            found |= attacks(model, cohort, asked, plan, tables)
        for name, table in tables.items():
            write(table, folder / f"{name}.parquet")
        artefacts.write_json(folder / "report.json", found)
        artefacts.write_bytes(folder / "report.html", page.render(found, tables.get("passes")).encode())
        clear(folder / WORK)
        return artefacts.write_manifest(
            folder,
            "robustness",
            model=found["model"],
            cohort=artefacts.digest(cohort.path / artefacts.MANIFEST),
            split=plan.split,
            suites=list(plan.suites),
            patients=found["patients"],
            samples=found["samples"],
            seed=plan.seed,
        )


def whom(model: Model, cohort: Cohort, plan: Plan) -> Asked:
    """Return who is asked about.

    Raises:
        ValueError: no outcome is estimable.
    """
    matches, _ = match(model.registry, cohort.registry)
    questions = questions_of(cohort, plan.split)
    if plan.patients:
        subjects = np.unique(questions.subject)
        drawn = np.random.Generator(np.random.Philox(plan.seed)).permutation(subjects)[: plan.patients]
        kept = np.isin(questions.subject, drawn)
        questions = Questions(questions.subject[kept], questions.time[kept], questions.label[kept])
    held = set(score.estimable(questions.label, [one.cohort for one in matches]))
    estimable = [one for one in matches if one.cohort in held]
    if not estimable:
        raise ValueError(
            f"{cohort.path}: no outcome of split {plan.split} has 10 positives and 10 negatives; nothing is estimable: "
            "ask more patients"
        )
    positive = (questions.label == 1).any((1, 2))
    draws = draw(questions.subject, positive, resamples=plan.bootstrap, seed=plan.seed)
    return Asked(questions, estimable, draws.places(questions.subject), draws)


def shifts(folder: Path, model: Model, cohort: Cohort, asked: Asked, plan: Plan) -> tuple[dict[str, Any], pl.DataFrame]:
    """Run the grid and measure it."""
    work = folder / WORK
    work.mkdir(exist_ok=True)
    grid, left_out = prepared(work, model, cohort, asked, plan)
    names, _ = applicable(grid.book)
    passes = dict(zip(("", *names), answered(work, grid, ["", *names], plan), strict=True))
    found = measured(model, asked, passes) | {"not_applicable": left_out}
    return found, tabulated(model, cohort, asked, passes)


def prepared(work: Path, model: Model, cohort: Cohort, asked: Asked, plan: Plan) -> tuple[Grid, dict[str, str]]:
    """Write the clean records, learn the training split's codes and fit the reference."""
    index = pl.DataFrame({"subject_id": asked.questions.subject, "prediction_time": asked.questions.time})
    index = index.with_columns(pl.col("prediction_time").cast(pl.Datetime("us")))
    shards = pl.concat(events(cohort))
    own = index.lazy().select("subject_id").unique()
    gap = model.vocabulary.settings.visit_gap_days
    frame = gather(shards.join(own, on="subject_id", how="semi", maintain_order="left"), index, gap_days=gap)
    write(frame, work / "records.parquet")
    train = splits(cohort).lazy().filter(pl.col("split") == "train").select("subject_id")
    equivalents = None if plan.code_map is None else read_map(plan.code_map)
    book = Codebook.fit(shards.join(train, on="subject_id", how="semi", maintain_order="left"), equivalents)
    if book.codes.is_empty():
        raise ValueError(f"{cohort.path}: the training split has no codes, from which corruptions are drawn")
    fitted = reference.fit(model, cohort, asked.places)
    grid = Grid(model.path, work / "records.parquet", index, book, fitted, SEVERITIES, plan.seed)
    return grid, applicable(book)[1]


def read_map(path: Path) -> pl.DataFrame:
    """Read a table of equivalent codes.

    Raises:
        ValueError: it cannot be read.
    """
    try:
        return pl.read_csv(path, infer_schema=False)
    except (OSError, pl.exceptions.PolarsError):
        raise ValueError(f"{path}: cannot be read; expected a CSV file with columns icd_9 and icd_10") from None


def answered(work: Path, grid: Grid, names: list[str], plan: Plan) -> list[list[Pass]]:
    """Return passes by corruption; those that an earlier run finished are read."""
    told = json.dumps([grid.model.name, grid.seed, grid.severities, artefacts.digest(grid.frame)])
    stamp = hashlib.sha256(told.encode()).hexdigest()[:16]
    files = {name: work / f"{name or 'clean'}-{stamp}.npz" for name in names}
    missing = [name for name in names if not files[name].is_file()]
    with (
        pool(min(plan.workers or cores(), max(1, len(missing)))) as workers,
        Track("corrupting and answering, corruptions", len(names)) as bar,
    ):
        bar.advance(len(names) - len(missing))
        for name, passes in zip(missing, workers.map(run, [Task(grid, name) for name in missing]), strict=True):
            keep(files[name], passes)
            bar.advance()
    return [kept(files[name]) for name in names]


def keep(path: Path, passes: list[Pass]) -> None:
    """Write passes whole or not at all."""
    temporary = path.with_suffix(".partial")
    with temporary.open("wb") as file:
        columns = zip(*passes, strict=True)
        np.savez(file, **{name: np.stack(column) for name, column in zip(Pass._fields, columns, strict=True)})  # pyright: ignore[reportArgumentType]
    temporary.rename(path)


def kept(path: Path) -> list[Pass]:
    """Read passes."""
    with np.load(path, allow_pickle=False) as held:
        parts = zip(held["logit"], held["reference"], held["asked"].tolist(), strict=True)
        return [Pass(*part) for part in parts]


def clear(folder: Path) -> None:
    """Take away what was kept to go on from."""
    if folder.is_dir():
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()


def attacks(model: Model, cohort: Cohort, asked: Asked, plan: Plan, tables: dict[str, pl.DataFrame]) -> dict[str, Any]:
    """Attack codes and embeddings."""
    label = np.full((len(asked.questions.subject), *model.registry.horizons.shape), np.nan, np.float32)
    for held in asked.matches:
        label[(slice(None), *held.model)] = asked.questions.label[(slice(None), *held.cohort)]
    questions = Questions(asked.questions.subject, asked.questions.time, label)
    places = [held.model for held in asked.matches]
    found = attacking.attack(model, cohort, questions, places, most=plan.attacked, seed=plan.seed)
    tables["attacks"] = found.table
    return {
        "attacked_patients": found.patients,
        "codes": found.codes if "codes" in plan.suites else [],
        "embedding": (found.embeddings or NO_GRADIENTS) if "embedding" in plan.suites else [],
    }
