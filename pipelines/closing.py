"""The end of a scoring: parts checked, gates held, what stands beside them put together, the manifest written."""

import shutil
from pathlib import Path
from typing import Any

import polars as pl

from ehr import predictions
from ehr.events import write
from ehr.quality import digest, page
from ehr.quality.profile import measures
from ehr.quality.thresholds import Measure, Thresholds, hold, message
from ehr.sources.parts import Source
from pipelines import artefacts, digests, scoring
from pipelines.release import Release
from pipelines.scoring import ABSENT, UNSCORED, ScoreTask

PLAN = "plan.json"


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
    people = check(folder, number, release)
    samples = int(gathered["counted"].filter(pl.col("gate") == "null_probability")["of"].sum())
    slots = int((release.registry.horizons >= 0).sum())
    if not people and not len(unscored):
        raise ValueError("no patients in the records; expected at least one")
    write(unscored, folder / "unscored.parquet")
    artefacts.write_bytes(folder / "unscored.csv", unscored.write_csv().encode())
    write(gathered["rejected"], folder / "rejected.parquet")
    tally = digest.add([gathered["tally"]])
    digests.write(folder / digests.FILE, digests.of_scored(tally, release.vocabulary, task.moments.stated))
    shutil.rmtree(folder / "work")
    (folder / PLAN).unlink()
    for left in folder.glob(".spread-*"):
        shutil.rmtree(left)
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


def check(folder: Path, number: int, release: Release) -> int:
    """Read every part again, whoever wrote it, and return the number of patients.

    Raises:
        ValueError: a part is damaged or of another model, and taken away so that it is done again; or a patient
            stands in two parts.
    """
    people = 0
    for at in range(number):
        path = scoring.part(folder, at)
        try:
            held = predictions.read(path)
        except (ValueError, OSError):
            held = None
        if held is None or not (held["model"] == release.model).all():
            path.unlink(missing_ok=True)
            raise ValueError(f"shard {at}: its predictions are damaged and were taken away; run the command again")
        people += held["subject_id"].n_unique()
    everyone = pl.scan_parquet([scoring.part(folder, at) for at in range(number)]).select(
        pl.col("subject_id").n_unique()
    )
    if int(everyone.collect().item()) != people:
        raise ValueError("a patient stands in two shards; sort the source by subject, or pass --repair")
    return people


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
