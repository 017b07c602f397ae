"""`anamnesis score`: calibrated probabilities for raw records, without torch."""

import argparse
import hashlib
import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from ehr.events import write
from ehr.quality import page
from ehr.quality.profile import measures
from ehr.quality.thresholds import Measure, Thresholds, hold, message
from ehr.sources.detect import open_source
from ehr.sources.parts import Source
from pipelines import artefacts, moments, scoring, shards
from pipelines.moments import LATEST, Moments
from pipelines.pool import cores, pool
from pipelines.progress import Track, say
from pipelines.release import Release, open_release
from pipelines.scoring import ABSENT, UNSCORED, ScoreTask

EXAMPLES = """examples:
  anamnesis score release/ records/ predictions/                       at each patient's last event
  anamnesis score release/ records/ predictions/ --at 2024-01-01       what was known then
  anamnesis score release/ omop/ predictions/ --at times.csv           patient,prediction_time
"""
PLAN, PATIENTS, TIMES = "plan.json", "patients.parquet", "times.parquet"


def score(  # noqa: PLR0913  the verb's own arguments
    release: Path,
    source: Path,
    target: Path,
    *,
    at: str = LATEST,
    format: str = "auto",
    columns: Path | None = None,
    quality: Path | None = None,
    device: str = "cpu",
    key: Path | None = None,
    repair: bool = False,
    overwrite: bool = False,
    workers: int | None = None,
) -> dict[str, Any]:
    """Score records and return the manifest of the predictions.

    Where an earlier run was stopped, its finished shards are kept, provided that release, records and settings are
    the same. What a patient's score is does not hang on who else is in the records.

    Args:
        release: made by anamnesis export.
        source: raw records.
        target: folder to be made.
        at: latest, a date or time (UTC), or a table of prediction_time and subject_id or patient.
        format: auto, meds, omop, fhir, mimic or table.
        columns: the column map of plain tables.
        quality: thresholds in place of the release's.
        device: cpu or cuda.
        key: the public key that the release has to be signed with.
        repair: sort what should have come sorted.
        overwrite: replace predictions that stand there.
        workers: processes; all cores where None.

    Raises:
        ValueError: bad input or setting, or a gate that does not hold; nothing is left behind.
    """
    artefacts.refuse_existing(target, overwrite=overwrite)
    opened = open_release(release, device=device, key=key)
    records = open_source(source, format=format, columns=columns, repair=repair)
    for note in records.notes:
        say(f"note: {note}")
    thresholds = Thresholds.load(quality) if quality else opened.thresholds
    try:
        with artefacts.build(target, overwrite=overwrite, resume=True) as folder:
            stated = stated_of(at)
            plan = plan_of(opened, source, format, columns, stated, thresholds)
            begin(folder, plan)
            task = ScoreTask(
                shard=shards.Shard(0, (), ordered=True, split=None, rows=0),
                folder=folder,
                release=release,
                device=device,
                moments=moments_of(at, stated, folder, records),
                patients=keep_patients(folder, records),
                thresholds=thresholds,
                now=thresholds.end_of_now(records.format),
            )
            with tempfile.TemporaryDirectory(prefix=".spread-", dir=folder) as spread:
                divided = shards.divide(records, Path(spread))
                run(task, divided, min(workers or cores(), max(1, len(divided))))
            return finish(folder, task, len(divided), opened, records)
    except (ValueError, OSError):
        # Bad input leaves nothing; a stopped run leaves what is finished, for the next one.
        shutil.rmtree(artefacts.partial(target), ignore_errors=True)
        raise


def plan_of(
    release: Release, source: Path, format: str, columns: Path | None, at: str, thresholds: Thresholds
) -> dict[str, Any]:
    """Return what a stopped run must have in common with this one for its shards to be kept."""
    files = sorted(path for path in source.rglob("*") if path.is_file()) if source.is_dir() else [source]
    listing = [(str(path.relative_to(source)), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return {
        "release": artefacts.digest(release.path / artefacts.MANIFEST),
        "source": hashlib.sha256(json.dumps(listing).encode()).hexdigest(),
        "format": format,
        "columns": artefacts.digest(columns) if columns else "",
        "at": at,
        "thresholds": thresholds.content(),
    }


def begin(folder: Path, plan: dict[str, Any]) -> None:
    """Keep what an earlier run of the same plan left; take away that of another."""
    path = folder / PLAN
    if path.is_file() and json.loads(path.read_text(encoding="utf-8")) != json.loads(json.dumps(plan)):
        say("note: release, records or settings changed since the stopped run; starting anew")
        shutil.rmtree(folder)
    for part in ("predictions", "work"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for left in folder.glob(".spread-*"):
        shutil.rmtree(left)
    artefacts.write_json(path, plan)


def stated_of(at: str) -> str:
    """Return --at as manifests name it: a table by its digest."""
    return artefacts.digest(Path(at)) if moments.parse(at) is None and Path(at).is_file() else at


def moments_of(at: str, stated: str, folder: Path, source: Source) -> Moments:
    """Return when patients are scored; a table is kept sorted in the folder meanwhile.

    Raises:
        ValueError: neither `latest`, nor a date, nor a table that can be read.
    """
    if at == LATEST:
        return Moments(LATEST)
    time = moments.parse(at)
    if time is not None:
        return Moments(stated, time=time)
    path = Path(at)
    if not path.exists():
        raise ValueError(f"--at {at}: no such file; expected latest, a date YYYY-MM-DD, or a table of prediction times")
    table = moments.read(path, source)
    write(table, folder / "work" / TIMES)
    return Moments(stated, table=folder / "work" / TIMES)


def keep_patients(folder: Path, source: Source) -> Path | None:
    """Write the source's own patient ids by subject, where they are others."""
    if source.patients is None:
        return None
    path = folder / "work" / PATIENTS
    known = source.patients.select("subject_id", pl.col("patient").cast(pl.String)).unique("subject_id")
    write(known.sort("subject_id").collect(), path)
    return path


def run(task: ScoreTask, divided: Sequence[shards.Shard], workers: int) -> None:
    """Score the shards that no earlier run finished."""
    tasks = [task._replace(shard=shard) for shard in divided if not scoring.done(task.folder, shard.number)]
    if len(tasks) < len(divided):
        say(f"going on: {len(divided) - len(tasks):,} of {len(divided):,} shards are done")
    with Track("scoring, shards", len(tasks)) as bar, pool(workers) as hands:
        for _ in hands.map(scoring.score, tasks):
            bar.advance()


def finish(folder: Path, task: ScoreTask, number: int, release: Release, source: Source) -> dict[str, Any]:
    """Put what stands beside the parts together, hold the gates, and write the manifest.

    Raises:
        ValueError: no patient is in the records, or a gate does not hold.
    """
    gathered = (
        {
            name: pl.concat([pl.read_parquet(scoring.beside(folder, at)[name]) for at in range(number)])
            for name in scoring.BESIDE
        }
        if number
        else {}
    )
    if not number:
        raise ValueError("no rows in the records; expected at least one patient")
    unscored = pl.concat([gathered["unscored"], absent(task, folder, number)]).sort("subject_id", "prediction_time")
    hold_gates(folder, gathered, task.thresholds)
    predicted = pl.scan_parquet(sorted((folder / "predictions").glob("*.parquet")))
    samples = int(gathered["counted"].filter(pl.col("gate") == "null_probability")["of"].sum())
    slots = int((release.registry.horizons >= 0).sum())
    people = int(predicted.select(pl.col("subject_id").n_unique()).collect().item())
    if not people and not len(unscored):
        raise ValueError("no patients in the records; expected at least one")
    write(unscored, folder / "unscored.parquet")
    artefacts.write_bytes(folder / "unscored.csv", unscored.write_csv().encode())
    write(gathered["rejected"], folder / "rejected.parquet")
    shutil.rmtree(folder / "work")
    (folder / PLAN).unlink()
    return artefacts.write_manifest(
        folder,
        "predictions",
        release=artefacts.digest(release.path / artefacts.MANIFEST),
        model=release.model,
        at=task.moments.stated,
        source={"format": source.format, "version": source.version, "notes": list(source.notes)},
        samples=samples // max(slots, 1),
        patients=people,
        unscored=len(unscored),
        rejected=len(gathered["rejected"]),
    )


def absent(task: ScoreTask, folder: Path, number: int) -> pl.DataFrame:
    """Return the asked times of patients whom no shard holds, as UNSCORED."""
    if task.moments.table is None:
        return pl.DataFrame(schema=UNSCORED)
    seen = pl.concat(
        [
            pl.scan_parquet(path).select("subject_id", "prediction_time")
            for at in range(number)
            for path in (scoring.part(folder, at), scoring.beside(folder, at)["unscored"])
        ]
    ).unique()
    left = pl.scan_parquet(task.moments.table).join(seen, on=["subject_id", "prediction_time"], how="anti").collect()
    own = scoring.patients_of(task.patients, left["subject_id"].to_numpy())
    return left.with_columns(own.alias("patient"), pl.lit(ABSENT).alias("reason")).select(UNSCORED.names())


def hold_gates(folder: Path, gathered: dict[str, pl.DataFrame], thresholds: Thresholds) -> None:
    """Hold the gates on records, codes and predictions, without Great Expectations, and write their page.

    Raises:
        ValueError: one does not hold.
    """
    raw = measures(gathered["profile"], gathered["rejected"])
    sums = gathered["counted"].group_by("gate", maintain_order=True).agg(pl.col("found", "of").sum())
    made = {str(gate): Measure(int(found), int(of)) for gate, found, of in sums.iter_rows()}
    failed = hold({**raw, **made}, thresholds)
    names = {violation.expectation for violation in failed}
    results = [
        {
            "suite": suite,
            "expectation": gate,
            "success": gate not in names,
            "found": held.found,
            "of": held.of,
            "share": held.share,
            "bound": thresholds.bound(gate),
            "where": held.where,
        }
        for suite, found in (("events", raw), ("predictions", made))
        for gate, held in found.items()
    ]
    if failed:
        raise ValueError(message(failed))
    (folder / "quality").mkdir(exist_ok=True)
    artefacts.write_json(folder / "quality" / "results.json", results)
    artefacts.write_bytes(folder / "quality" / "index.html", page.render(results).encode())


def parser() -> argparse.ArgumentParser:
    """Return the verb's arguments."""
    made = argparse.ArgumentParser(
        "anamnesis score",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("release", type=Path, help="made by anamnesis export")
    made.add_argument("source", type=Path, help="raw records: a folder or a file")
    made.add_argument("predictions", type=Path, help="folder to be made")
    made.add_argument("--at", default=LATEST, help="latest, a date or time in UTC, or a table (default: latest)")
    made.add_argument("--format", default="auto", help="auto, meds, omop, fhir, mimic or table (default: auto)")
    made.add_argument("--columns", type=Path, help="column map of plain tables, YAML")
    made.add_argument("--quality", type=Path, help="thresholds of the gates, in place of the release's")
    made.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    made.add_argument("--key", type=Path, help="public key, PEM; a release that is not signed with it is refused")
    made.add_argument("--repair", action="store_true", help="sort what should have come sorted")
    made.add_argument("--overwrite", action="store_true", help="replace predictions that stand there")
    made.add_argument("--workers", type=int, help="processes (default: all cores)")
    return made


def main(argv: Sequence[str]) -> int:
    """Run the verb; 3 where rows were rejected or patients not scored, and listed."""
    given = parser().parse_args(argv)
    manifest = score(
        given.release,
        given.source,
        given.predictions,
        at=given.at,
        format=given.format,
        columns=given.columns,
        quality=given.quality,
        device=given.device,
        key=given.key,
        repair=given.repair,
        overwrite=given.overwrite,
        workers=given.workers,
    )
    say(f"{given.predictions}: {manifest['samples']:,} samples of {manifest['patients']:,} patients scored")
    if manifest["unscored"]:
        say(f"{manifest['unscored']:,} not scored, with the reason: {given.predictions / 'unscored.csv'}")
    if manifest["rejected"]:
        say(f"{manifest['rejected']:,} rows were rejected: {given.predictions / 'rejected.parquet'}")
    return 3 if manifest["unscored"] or manifest["rejected"] else 0
