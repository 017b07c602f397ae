"""`anamnesis prepare`: raw records to a cohort: checked, split, tokenised and labelled."""

import argparse
import shutil
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ehr.outcomes import exchange
from ehr.outcomes.registry import Registry, dump, load
from ehr.quality import sequences
from ehr.quality.profile import measures
from ehr.quality.thresholds import Measure, Thresholds
from ehr.sources.detect import open_source
from ehr.sources.parts import Source
from ehr.splits import FRACTIONS, check_fractions
from ehr.vocabulary import Settings, Vocabulary, merge
from pipelines import artefacts, gates, passes, shards, tables
from pipelines.passes import Checked, CheckTask, Plan, RelabelTask, Tokenised, TokeniseTask
from pipelines.progress import Track, say

EXAMPLES = """examples:
  anamnesis prepare records/ cohort/ --outcomes configs/demo/outcomes.yaml
  anamnesis prepare omop/ cohort/ --format omop --outcomes outcomes.yaml --quality configs/quality.yaml
  anamnesis prepare stays/ cohort/ --columns configs/columns/physionet2012.yaml --outcomes outcomes.yaml
  anamnesis prepare cohort/ labelled/ --outcomes more.yaml     label a prepared cohort for other outcomes
"""
PARTS = ("events", "timelines", "labels", "quality")


def prepare(  # noqa: PLR0913  the verb's own arguments
    source: Path,
    cohort: Path,
    *,
    format: str = "auto",
    columns: Path | None = None,
    outcomes: Path | None = None,
    labels: Path | None = None,
    vocabulary: Path | None = None,
    plan: Plan | None = None,
    repair: bool = False,
    overwrite: bool = False,
    workers: int | None = None,
) -> dict[str, Any]:
    """Make a cohort and return its manifest.

    Args:
        source: raw records.
        cohort: folder to be made.
        format: auto, meds, omop, fhir, mimic or table.
        columns: the column map of plain tables.
        outcomes: outcomes in YAML.
        labels: MEDS labels made elsewhere, in place of outcomes.
        vocabulary: a frozen vocabulary to tokenise with, in place of fitting one.
        plan: settings.
        repair: sort what should have come sorted.
        overwrite: replace a cohort that stands there.
        workers: processes; all cores where None.

    Raises:
        ValueError: bad input or setting, or a gate that does not hold; nothing is left behind.
    """
    plan = plan or Plan()
    artefacts.refuse_existing(cohort, overwrite=overwrite)
    registry = load(outcomes) if outcomes else exchange.registry_of(labels) if labels else Registry(())
    frozen = Vocabulary.load(vocabulary) if vocabulary else None
    opened = open_source(source, format=format, columns=columns, repair=repair)
    for note in opened.notes:
        say(f"note: {note}")
    # Great Expectations takes seconds to import; the first pass runs meanwhile.
    importing = threading.Thread(target=gates.preload, daemon=True)
    if plan.gates:
        importing.start()
    with artefacts.build(cohort, overwrite=overwrite) as folder:
        for part in PARTS:
            (folder / part).mkdir()
        with tempfile.TemporaryDirectory(prefix=".spread-", dir=folder) as spread:
            pieces = shards.divide(opened, Path(spread))
            now = gates.end_of_now(plan.thresholds, opened.format)
            found = first_pass([CheckTask(piece, folder, plan, now) for piece in pieces], workers)
        settle(folder, opened, found)
        if plan.gates:
            importing.join()
            raw = measures(pl.concat([f.profile for f in found]), rejected_of(found))
            gates.hold(folder, "events", raw, plan.thresholds, data_docs=plan.data_docs)
        plan.thresholds.save(folder / "quality.json")
        fitted = frozen or fit(found, plan.tokens, opened)
        fitted.save(folder / "vocabulary.json")
        (folder / "outcomes.yaml").write_text(dump(registry), encoding="utf-8")
        tasks = [TokeniseTask(i, folder, plan, fitted, registry, labels) for i in range(len(pieces))]
        with Track("tokenising and labelling, shards", len(tasks)) as bar:
            done: list[Tokenised] = []
            for result in shards.work(passes.tokenise, tasks, workers=workers):
                done.append(result)
                bar.advance()
        rejected = rejected_of(found)
        tables.write_attrition(folder, registry, [d.attrition for d in done], rejected)
        tables.write_prevalence(folder, registry, [d.prevalence for d in done])
        if plan.gates:
            made = timeline_measures(found, done, plan, frozen)
            gates.hold(folder, "timelines", made, plan.thresholds, data_docs=plan.data_docs)
        return artefacts.write_manifest(
            folder,
            "cohort",
            source={"format": opened.format, "version": opened.version, "notes": list(opened.notes)},
            shards=len(pieces),
            vocabulary=fitted.digest,
            seed=plan.seed,
            fractions=list(plan.fractions),
            **totals(found, done),
        )


def first_pass(tasks: list[CheckTask], workers: int | None) -> list[Checked]:
    """Check every shard and refuse a source that cannot make a cohort."""
    found: list[Checked] = []
    with Track("checking records, shards", len(tasks)) as bar:
        for result in shards.work(passes.check, tasks, workers=workers):
            found.append(result)
            bar.advance()
    patients = sum(len(f.subjects) for f in found)
    if patients < 2:
        raise ValueError(f"{patients} patients with usable events; expected at least 2 to make a cohort")
    if not any((f.split == "train").any() for f in found):
        known = sorted({str(split) for f in found for split in f.split})
        raise ValueError(f"no patient in the split train (found {', '.join(known)}); expected some to learn from")
    return found


def rejected_of(found: list[Checked]) -> pl.DataFrame:
    """Return all rejected rows."""
    return pl.concat([f.rejected for f in found])


def settle(folder: Path, source: Source, found: list[Checked]) -> None:
    """Write splits, patients and rejected rows."""
    subjects = np.concatenate([f.subjects for f in found])
    if len(np.unique(subjects)) != len(subjects):
        raise ValueError("a subject stands in two shards; sort the source by subject, or pass --repair")
    split = pl.Series(np.concatenate([f.split for f in found]), dtype=pl.String)
    splits = pl.DataFrame({"subject_id": subjects, "split": split}).sort("subject_id")
    splits.write_parquet(folder / "splits.parquet")
    patients_of(source, splits).write_parquet(folder / "patients.parquet")
    rejected_of(found).write_parquet(folder / "rejected.parquet")


def patients_of(source: Source, subjects: pl.DataFrame) -> pl.DataFrame:
    """Return the source's own patient id of each subject, sorted by subject."""
    held = subjects.select("subject_id")
    if source.patients is None:
        return held.with_columns(pl.col("subject_id").cast(pl.String).alias("patient")).sort("subject_id")
    known = source.patients.select("subject_id", pl.col("patient").cast(pl.String)).unique("subject_id")
    joined = held.lazy().join(known, on="subject_id", how="left")
    own = pl.col("patient").fill_null(pl.col("subject_id").cast(pl.String))
    return joined.with_columns(own).sort("subject_id").collect()


def fit(found: list[Checked], settings: Settings, source: Source) -> Vocabulary:
    """Fit the vocabulary on the training split."""
    return Vocabulary.fit(merge(f.train for f in found), settings, source.parents)


def totals(found: list[Checked], done: list[Tokenised]) -> dict[str, Any]:
    """Return the manifest's counts."""
    names, sizes = np.unique(np.concatenate([f.split for f in found]), return_counts=True)
    rejected = sum(len(f.rejected) for f in found)
    return {
        "patients": sum(len(f.subjects) for f in found),
        "events": sum(int(f.profile["rows"].sum()) for f in found) - rejected,
        "rejected": rejected,
        "tokens": sum(d.sequences.tokens for d in done),
        "splits": {str(split): int(size) for split, size in zip(names, sizes, strict=True)},
    }


def timeline_measures(
    found: list[Checked], done: list[Tokenised], plan: Plan, frozen: Vocabulary | None
) -> dict[str, Measure]:
    """Return what the gates on prepared timelines found."""
    train, others = pl.concat([f.train for f in found]), pl.concat([f.others for f in found])
    drift = gates.unit_drift(train, others, frozen, plan.thresholds, plan.tokens.min_rows)
    return {**sequences.measures(d.sequences for d in done), "drifted_codes": drift}


def relabel(
    cohort: Path, target: Path, outcomes: Path, *, overwrite: bool = False, workers: int | None = None
) -> dict[str, Any]:
    """Label a prepared cohort for other outcomes, into a cohort of its own; nothing is tokenised again.

    Raises:
        ValueError: the folder is not a whole cohort, or the outcomes are wrong.
    """
    held = artefacts.read_manifest(cohort, "cohort")
    registry = load(outcomes)
    with artefacts.build(target, overwrite=overwrite) as folder:
        shutil.copytree(cohort, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("labels", "manifest.json"))
        (folder / "labels").mkdir()
        (folder / "outcomes.yaml").write_text(dump(registry), encoding="utf-8")
        tasks = [RelabelTask(i, folder, registry) for i in range(held["shards"])]
        rules: list[pl.DataFrame] = []
        counts: list[pl.DataFrame] = []
        with Track("labelling, shards", len(tasks)) as bar:
            for attrition, counted in shards.work(passes.relabel, tasks, workers=workers):
                rules.append(attrition)
                counts.append(counted)
                bar.advance()
        tables.write_attrition(folder, registry, rules)
        tables.write_prevalence(folder, registry, counts)
        kept = {key: value for key, value in held.items() if key not in {"kind", "format", "files"}}
        return artefacts.write_manifest(folder, "cohort", **kept)


def parser() -> argparse.ArgumentParser:
    """Return the verb's arguments."""
    made = argparse.ArgumentParser(
        "anamnesis prepare",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("source", type=Path, help="raw records: a folder or a file")
    made.add_argument("cohort", type=Path, help="folder to be made")
    made.add_argument("--format", default="auto", help="auto, meds, omop, fhir, mimic or table (default: auto)")
    made.add_argument("--columns", type=Path, help="column map of plain tables, YAML")
    made.add_argument("--outcomes", type=Path, help="outcomes to label, YAML")
    made.add_argument("--labels", type=Path, help="MEDS labels made elsewhere, in place of --outcomes")
    made.add_argument("--vocabulary", type=Path, help="a frozen vocabulary.json, in place of fitting one")
    made.add_argument("--quality", type=Path, help="thresholds of the gates, YAML (configs/quality.yaml)")
    shown = ",".join(map(str, FRACTIONS))
    made.add_argument("--fractions", default=shown, help=f"train,tuning,calibration,held_out (default: {shown})")
    made.add_argument("--seed", type=int, default=0, help="of the split (default: 0)")
    made.add_argument("--exclude", action="append", default=[], help="code pattern that is never input; repeatable")
    made.add_argument("--min-patients", type=int, default=Settings.min_patients, help="training patients a token needs")
    made.add_argument("--repair", action="store_true", help="sort what should have come sorted")
    made.add_argument("--no-gates", action="store_true", help="hold no gates; rows that cannot be used still go")
    made.add_argument("--row-level", action="store_true", help="count row by row over pandas too; several times slower")
    made.add_argument("--data-docs", action="store_true", help="add Great Expectations' pages; they load public hosts")
    made.add_argument("--overwrite", action="store_true", help="replace a cohort that stands there")
    made.add_argument("--workers", type=int, help="processes (default: all cores)")
    return made


def main(argv: Sequence[str]) -> int:
    """Run the verb; 3 where rows were rejected and listed."""
    given = parser().parse_args(argv)
    if given.outcomes and given.labels:
        raise ValueError("--outcomes and --labels were both given; expected one of them")
    if (given.source / artefacts.MANIFEST).is_file() and given.outcomes:
        manifest = relabel(given.source, given.cohort, given.outcomes, overwrite=given.overwrite, workers=given.workers)
    else:
        try:
            fractions = check_fractions([float(part) for part in given.fractions.split(",")])
        except ValueError as error:
            raise ValueError(f"--fractions {given.fractions}: {error}") from None
        plan = Plan(
            fractions=fractions,
            seed=given.seed,
            tokens=Settings(min_patients=given.min_patients, exclude=(*Settings.exclude, *given.exclude)),
            thresholds=Thresholds.load(given.quality) if given.quality else Thresholds(),
            gates=not given.no_gates,
            row_level=given.row_level,
            data_docs=given.data_docs,
        )
        manifest = prepare(
            given.source,
            given.cohort,
            format=given.format,
            columns=given.columns,
            outcomes=given.outcomes,
            labels=given.labels,
            vocabulary=given.vocabulary,
            plan=plan,
            repair=given.repair,
            overwrite=given.overwrite,
            workers=given.workers,
        )
    tables.show(given.cohort)
    say(
        f"{given.cohort}: {manifest['patients']:,} patients, {manifest['events']:,} events, "
        f"{manifest['tokens']:,} tokens in {manifest['shards']} shards"
    )
    if manifest["rejected"]:
        say(f"{manifest['rejected']:,} rows were rejected: {given.cohort / 'rejected.parquet'}")
        return 3
    return 0
