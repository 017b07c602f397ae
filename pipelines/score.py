"""`anamnesis score`: calibrated probabilities for raw records, without torch."""

import argparse
import hashlib
import json
import shutil
import tempfile
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from ehr.events import write
from ehr.quality.thresholds import Thresholds
from ehr.sources.detect import open_source
from ehr.sources.parts import Source
from pipelines import artefacts, moments, scoring, shards
from pipelines.closing import PLAN, finish
from pipelines.hands import Hands, hands
from pipelines.moments import LATEST, Moments
from pipelines.progress import Track, say
from pipelines.release import Release, open_release
from pipelines.scoring import ScoreTask

EXAMPLES = """examples:
  anamnesis score release/ records/ predictions/                       at each patient's last event
  anamnesis score release/ records/ predictions/ --at 2024-01-01       what was known then
  anamnesis score release/ omop/ predictions/ --at times.csv           patient,prediction_time
  anamnesis score release/ records/ predictions/ --shard 3/8           the third of eight jobs
"""
PATIENTS, TIMES = "patients.parquet", "times.parquet"


class Share(NamedTuple):
    """One job's part of the shards: those whose number leaves `place - 1` when divided by `number`."""

    place: int
    number: int

    def of(self, divided: Sequence[shards.Shard]) -> list[shards.Shard]:
        """Return this job's shards."""
        return [shard for shard in divided if shard.number % self.number == self.place - 1]


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
    engine: str = "local",
    share: Share | None = None,
) -> dict[str, Any]:
    """Score records and return the manifest of the predictions, or {} where a share of the shards was asked for.

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
        engine: local or ray.
        share: the shards to score, beside other jobs; a run without it closes what they have done.

    Raises:
        ValueError: bad input or setting, or a gate that does not hold; nothing is left behind but the shards that
            earlier runs or other jobs finished.
    """
    if engine == "ray":
        if device != "cpu":
            raise ValueError(f"--device {device} with --engine ray: expected cpu; use --shard for many accelerators")
        # Workers stand in other folders.
        release, source, target = release.resolve(), source.resolve(), target.resolve()
    artefacts.refuse_existing(target, overwrite=overwrite)
    opened = open_release(release, device=device, key=key)
    records = open_source(source, format=format, columns=columns, repair=repair)
    for note in records.notes:
        say(f"note: {note}")
    thresholds = Thresholds.load(quality) if quality else opened.thresholds
    kept = share is not None
    try:
        with beside_others(target) if share else artefacts.build(target, overwrite=overwrite, resume=True) as folder:
            stated = stated_of(at)
            plan = plan_of(opened, source, format, columns, stated, thresholds)
            kept = begin(folder, plan, share) or kept
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
                asked = share.of(divided) if share else divided
                with hands(engine, workers, most=len(asked)) as found:
                    run(task, asked, found)
            return {} if share else finish(folder, task, len(divided), opened, records)
    except (ValueError, OSError):
        # Bad input leaves nothing; a stopped run, or another job, leaves what is finished for the next one.
        if not kept:
            shutil.rmtree(artefacts.partial(target), ignore_errors=True)
        raise


@contextmanager
def beside_others(target: Path) -> Generator[Path]:
    """Yield the folder that jobs fill together; the run that closes it renames it."""
    folder = artefacts.partial(target)
    folder.mkdir(parents=True, exist_ok=True)
    yield folder


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


def begin(folder: Path, plan: dict[str, Any], share: Share | None) -> bool:
    """Keep what an earlier run of the same plan left, take away that of another; tell whether there was the same.

    Raises:
        ValueError: a job finds shards of another plan, on which others may be at work.
    """
    path = folder / PLAN
    left = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    same = left == json.loads(json.dumps(plan))
    if left is not None and not same:
        if share:
            raise ValueError(
                f"{folder}: holds shards of another release, records or settings; delete it, or mend those"
            )
        say("note: release, records or settings changed since the stopped run; starting anew")
        shutil.rmtree(folder)
    for part in ("predictions", "work"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    if not share:
        for spread in folder.glob(".spread-*"):
            shutil.rmtree(spread)
    if not same:
        artefacts.write_json(path, plan)
    return same


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
    kept = folder / "work" / TIMES
    # Others may be reading it, and the plan says that it is the same.
    if not kept.is_file():
        write(moments.read(path, source), kept)
    return Moments(stated, table=kept)


def keep_patients(folder: Path, source: Source) -> Path | None:
    """Write the source's own patient ids by subject, where they are others."""
    if source.patients is None:
        return None
    path = folder / "work" / PATIENTS
    if path.is_file():
        return path
    known = source.patients.select("subject_id", pl.col("patient").cast(pl.String)).unique("subject_id")
    write(known.sort("subject_id").collect(), path)
    return path


def run(task: ScoreTask, divided: Sequence[shards.Shard], found: Hands) -> None:
    """Score the shards that no earlier run finished."""
    tasks = [task._replace(shard=shard) for shard in divided if not scoring.done(task.folder, shard.number)]
    if len(tasks) < len(divided):
        say(f"going on: {len(divided) - len(tasks):,} of {len(divided):,} shards are done")
    with Track("scoring, shards", len(tasks)) as bar:
        for _ in found.map(scoring.score, tasks):
            bar.advance()


def share_of(text: str) -> Share:
    """Read --shard I/N, I from 1 to N.

    Raises:
        ValueError: it is none.
    """
    place, _, number = text.partition("/")
    if not (place.isdecimal() and number.isdecimal() and 1 <= int(place) <= int(number)):
        raise ValueError(f"--shard {text}: expected I/N with I from 1 to N, such as 2/8")
    return Share(int(place), int(number))


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
    made.add_argument("--engine", default="local", help="local, or ray: the machines of a Ray cluster (default: local)")
    made.add_argument("--shard", metavar="I/N", help="score every N-th shard beside N - 1 other jobs; then run without")
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
        engine=given.engine,
        share=share_of(given.shard) if given.shard else None,
    )
    if given.shard:
        say(f"shard {given.shard} is done; when all {given.shard.partition('/')[2]} are, run again without --shard")
        return 0
    say(f"{given.predictions}: {manifest['samples']:,} samples of {manifest['patients']:,} patients scored")
    if manifest["unscored"]:
        say(f"{manifest['unscored']:,} not scored, with the reason: {given.predictions / 'unscored.csv'}")
    if manifest["rejected"]:
        say(f"{manifest['rejected']:,} rows were rejected: {given.predictions / 'rejected.parquet'}")
    return 3 if manifest["unscored"] or manifest["rejected"] else 0
