"""Raw records to a cohort in two passes over shards: check and count, then tokenise and label."""

import json
import shutil
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import polars as pl

from ehr.events import write
from ehr.outcomes import exchange
from ehr.outcomes.registry import Registry, dump, load
from ehr.quality import sequences
from ehr.quality.profile import measures
from ehr.quality.thresholds import Measure, Thresholds
from ehr.sources.detect import open_source
from ehr.sources.parts import Source
from ehr.timelines import Shard
from ehr.vocabulary import Vocabulary, merge
from pipelines import artefacts, gates, passes, shards, tables
from pipelines.hands import Hands, hands
from pipelines.passes import Checked, CheckTask, Labelled, LabelTask, Plan, Tokenised
from pipelines.progress import Track, say

PARTS = ("events", "timelines", "labels", "quality")
PARENTS = "parents.json"
Result = TypeVar("Result")


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
    engine: str = "local",
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
        engine: local or ray.

    Raises:
        ValueError: bad input or setting, or a gate that does not hold; nothing is left behind.
    """
    plan = plan or Plan()
    if engine == "ray":
        # Workers stand in other folders.
        source, cohort = source.resolve(), cohort.resolve()
        labels = labels.resolve() if labels else None
        plan = replace(plan, splits=plan.splits.resolve() if plan.splits else None)
    artefacts.refuse_existing(cohort, overwrite=overwrite)
    registry = load(outcomes) if outcomes else exchange.registry_of(labels)
    frozen = Vocabulary.load(vocabulary) if vocabulary else None
    opened = open_source(source, format=format, columns=columns, repair=repair)
    for note in opened.notes:
        say(f"note: {note}")
    halve = plan.halve and not any(part.split == "calibration" for part in opened.parts)
    plan = replace(plan, halve=halve, splits=plan.splits or opened.splits)
    # Great Expectations takes seconds to import; the first pass runs meanwhile.
    importing = threading.Thread(target=gates.preload, daemon=True)
    if plan.gates:
        importing.start()
    with artefacts.build(cohort, overwrite=overwrite) as folder, hands(engine, workers) as workforce:
        for part in PARTS:
            (folder / part).mkdir()
        found = first_pass(workforce, opened, folder, plan)
        settle(folder, opened, found)
        if plan.gates:
            importing.join()
            raw = measures(pl.concat([f.profile for f in found]), rejected_of(found))
            gates.hold(folder, "events", raw, plan.thresholds, data_docs=plan.data_docs)
        plan.thresholds.save(folder / "quality.json")
        fitted = frozen or Vocabulary.fit(merge(f.train for f in found), plan.tokens, opened.parents)
        fitted.save(folder / "vocabulary.json")
        (folder / "outcomes.yaml").write_text(dump(registry), encoding="utf-8")
        artefacts.write_json(folder / PARENTS, {code: list(above) for code, above in opened.parents.items()})
        tasks = [
            LabelTask(at, folder, registry, opened.parents, labels, fitted, plan.thresholds) for at in range(len(found))
        ]
        done = list(watched("tokenising and labelling, shards", workforce.map(passes.tokenise, tasks), len(tasks)))
        check_parts(folder, found, done)
        labelled = [d.labelled for d in done]
        write_tables(folder, registry, labelled, rejected_of(found))
        refuse_strangers(labels, labelled)
        if plan.gates:
            made = timeline_measures(found, done, plan, frozen)
            gates.hold(folder, "timelines", made, plan.thresholds, data_docs=plan.data_docs)
        return artefacts.write_manifest(
            folder,
            "cohort",
            source={"format": opened.format, "version": opened.version, "notes": list(opened.notes)},
            shards=len(found),
            vocabulary=fitted.digest,
            seed=plan.seed,
            fractions=list(plan.fractions),
            **totals(found, done),
        )


def watched(what: str, results: Iterator[Result], number: int) -> Iterator[Result]:
    """Yield results and show how many of them there are."""
    with Track(what, number) as bar:
        for result in results:
            bar.advance()
            yield result


def first_pass(workforce: Hands, source: Source, folder: Path, plan: Plan) -> list[Checked]:
    """Check and write every shard, and refuse a source that cannot make a cohort."""
    now = plan.thresholds.end_of_now(source.format)
    with tempfile.TemporaryDirectory(prefix=".spread-", dir=folder) as spread:
        tasks = [CheckTask(shard, folder, plan, now) for shard in shards.divide(source, Path(spread))]
        found = list(watched("checking records, shards", workforce.map(passes.check, tasks), len(tasks)))
    if not found:
        raise ValueError("no rows in the records; expected at least 2 patients to make a cohort")
    patients = sum(len(f.subjects) for f in found)
    if patients < 2:
        raise ValueError(f"{patients} patients with usable events; expected at least 2 to make a cohort{lost(found)}")
    if not any((f.split == "train").any() for f in found):
        known = sorted({str(split) for f in found for split in f.split})
        raise ValueError(f"no patient in the split train (found {', '.join(known)}); expected some to learn from")
    return found


def check_parts(folder: Path, found: list[Checked], done: list[Tokenised]) -> None:
    """Compare what stands on disk with what was told by those who wrote it, whichever machine they were on.

    Raises:
        ValueError: a part is missing, cannot be read or has another number of rows.
    """
    for at, (checked, tokenised) in enumerate(zip(found, done, strict=True)):
        told = (
            int(checked.profile["rows"].sum()) - len(checked.rejected),
            len(checked.subjects),
            int(tokenised.labelled.prevalence["count"].sum()),
        )
        events, labels = (folder / part / f"{at:05d}.parquet" for part in ("events", "labels"))
        try:
            held = (
                rows_of(events),
                len(Shard.open(folder / "timelines" / f"{at:05d}.arrow").subjects),
                rows_of(labels),
            )
        except (OSError, ValueError, pl.exceptions.PolarsError):
            raise ValueError(f"shard {at}: cannot be read again; is the disk full, or not shared by all?") from None
        if held != told:
            raise ValueError(f"shard {at}: {held} events, patients and labels stand on disk, {told} were written")


def rows_of(path: Path) -> int:
    """Return the rows of a parquet file, by its footer."""
    return int(pl.scan_parquet(path).select(pl.len()).collect().item())


def rejected_of(found: list[Checked]) -> pl.DataFrame:
    """Return all rejected rows."""
    return pl.concat([f.rejected for f in found])


def lost(found: list[Checked]) -> str:
    """Return how many rows were left out and where they begin, as the end of a message."""
    rejected = rejected_of(found)
    if rejected.is_empty():
        return ""
    file, row, reason = rejected.select("file", "row", "reason").row(0)
    return f"; {len(rejected):,} rows were left out, first {file}:{row} ({reason})"


def settle(folder: Path, source: Source, found: list[Checked]) -> None:
    """Write splits, patients and rejected rows."""
    subjects = np.concatenate([f.subjects for f in found])
    if len(np.unique(subjects)) != len(subjects):
        raise ValueError("a subject stands in two shards; sort the source by subject, or pass --repair")
    split = pl.Series(np.concatenate([f.split for f in found]), dtype=pl.String)
    splits = pl.DataFrame({"subject_id": subjects, "split": split}).sort("subject_id")
    write(splits, folder / "splits.parquet")
    write(patients_of(source, splits), folder / "patients.parquet")
    write(rejected_of(found), folder / "rejected.parquet")


def patients_of(source: Source, subjects: pl.DataFrame) -> pl.DataFrame:
    """Return the source's own patient id of each subject, sorted by subject."""
    held = subjects.select("subject_id")
    if source.patients is None:
        return held.with_columns(pl.col("subject_id").cast(pl.String).alias("patient")).sort("subject_id")
    known = source.patients.select("subject_id", pl.col("patient").cast(pl.String)).unique("subject_id")
    joined = held.lazy().join(known, on="subject_id", how="left")
    own = pl.col("patient").fill_null(pl.col("subject_id").cast(pl.String))
    return joined.with_columns(own).sort("subject_id").collect()


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
    cohort: Path,
    target: Path,
    *,
    outcomes: Path | None = None,
    labels: Path | None = None,
    overwrite: bool = False,
    workers: int | None = None,
) -> dict[str, Any]:
    """Label a prepared cohort for other outcomes, into a cohort of its own; nothing is tokenised again.

    Args:
        cohort: what `prepare` made.
        target: folder to be made.
        outcomes: outcomes in YAML.
        labels: MEDS labels made elsewhere, in place of outcomes.
        overwrite: replace a cohort that stands there.
        workers: processes; all cores where None.

    Raises:
        ValueError: the folder is not a whole cohort, the outcomes or labels are wrong, or a gate on labels does not
            hold.
    """
    if outcomes is None and labels is None:
        raise ValueError(f"{cohort}: is a cohort already; expected --outcomes or --labels to label it for")
    held = artefacts.read_manifest(cohort, "cohort")
    registry = load(outcomes) if outcomes else exchange.registry_of(labels)
    above: dict[str, list[str]] = json.loads((cohort / PARENTS).read_text(encoding="utf-8"))
    parents = {code: tuple(chain) for code, chain in above.items()}
    with artefacts.build(target, overwrite=overwrite) as folder:
        shutil.copytree(cohort, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("labels", "manifest.json"))
        (folder / "labels").mkdir()
        (folder / "outcomes.yaml").write_text(dump(registry), encoding="utf-8")
        tasks = [LabelTask(at, folder, registry, parents, labels) for at in range(held["shards"])]
        with hands("local", workers) as workforce:
            done = list(watched("labelling, shards", workforce.map(passes.relabel, tasks), len(tasks)))
        write_tables(folder, registry, done, pl.read_parquet(folder / "rejected.parquet"))
        refuse_strangers(labels, done)
        counts = sequences.measures(sequences.Sequences(**d.counts) for d in done)
        found = {gate: counts[gate] for gate in sequences.LABEL_GATES}
        gates.hold_again(folder, found, Thresholds.load(folder / "quality.json"))
        kept = {key: value for key, value in held.items() if key not in {"kind", "format", "files"}}
        return artefacts.write_manifest(folder, "cohort", **kept)


def write_tables(folder: Path, registry: Registry, done: list[Labelled], rejected: pl.DataFrame) -> None:
    """Write attrition and prevalence of all shards."""
    tables.write_attrition(folder, registry, [d.attrition for d in done], rejected)
    tables.write_prevalence(folder, registry, [d.prevalence for d in done])


def refuse_strangers(labels: Path | None, done: list[Labelled]) -> None:
    """Say how many labels made elsewhere are of patients who are not in the cohort.

    Raises:
        ValueError: all of them.
    """
    if labels is None:
        return
    stated = len(exchange.read(labels))
    met = int(pl.concat([d.prevalence for d in done])["count"].sum())
    if not met:
        raise ValueError(
            f"{labels}: labels no patient of the records; expected their subject_id (see patients.parquet)"
        )
    if met < stated:
        say(f"note: {stated - met:,} of {stated:,} labels are of patients who are not in the cohort")
