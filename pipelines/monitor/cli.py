"""`anamnesis monitor`: who is scored and what is answered, against what the model learnt from. No torch."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ehr.quality import noise
from pipelines import artefacts, digests
from pipelines.digests import Digests
from pipelines.monitor import page, sources
from pipelines.monitor.compare import Watched, as_reference, watch, with_labels
from pipelines.monitor.page import Content
from pipelines.monitor.sources import Seen
from pipelines.progress import say
from pipelines.release import Release, open_release

EXAMPLES = """examples:
  anamnesis monitor release/ predictions/ report/                              records and probabilities
  anamnesis monitor release/ predictions/ report/ --labels labels.parquet      and how right they were
  anamnesis monitor release/ predictions/ report/ --reference first-month/     against an earlier scoring
  anamnesis monitor release/ audit.jsonl report/                               answers of anamnesis serve

exit codes: 0 no alarm, 3 at least one alarm, 2 bad input
"""
PAGE, ALARMS = "monitor.html", "alarms.json"


def monitor(
    release: Path,
    source: Path,
    report: Path,
    *,
    labels: Path | None = None,
    reference: Path | None = None,
    key: Path | None = None,
    alpha: float = noise.ALPHA,
    overwrite: bool = False,
) -> Watched:
    """Compare, and write the report.

    Args:
        release: made by anamnesis export, with a digest.
        source: predictions of anamnesis score, or an audit of anamnesis serve.
        report: folder to be made.
        labels: what came after, a table of labels.
        reference: earlier predictions of the same release, in place of the patients learnt from.
        key: the public key that the release has to be signed with.
        alpha: the chance of any alarm where nothing changed, at most.
        overwrite: replace a report that stands there.

    Raises:
        ValueError: bad input; nothing is left behind.
    """
    artefacts.refuse_existing(report, overwrite=overwrite)
    if not 0 < alpha < 1:
        raise ValueError(f"--alpha is {alpha:g}; expected a chance above 0 and below 1")
    opened = open_release(release, key=key)
    held = reference_of(opened, reference)
    seen = seen_of(source, opened)
    stated = sources.labels(labels) if labels else None
    watched = watch(held, seen, stated, alpha=alpha)
    joined = with_labels(seen, stated) if stated is not None else None
    facts = (
        ("Model", opened.model[:12]),
        ("Scored", f"{watched.seen.everyone:,} patients, at {seen.moment}"),
        ("Reference", f"{watched.reference.everyone:,} patients, {'earlier predictions' if reference else 'training'}"),
        ("Labelled", "–" if joined is None else f"{len(joined):,} predictions"),
    )
    with artefacts.build(report, overwrite=overwrite) as folder:
        content = Content("Monitoring", facts, watched, joined)
        artefacts.write_bytes(folder / PAGE, page.render(content).encode())
        artefacts.write_json(folder / ALARMS, listing(watched))
        artefacts.write_manifest(
            folder,
            "monitoring",
            release=artefacts.digest(release / artefacts.MANIFEST),
            model=opened.model,
            alarms=len(watched.alarms) + len(watched.worse),
            alpha=alpha,
            patients=watched.seen.everyone,
        )
    return watched


def reference_of(release: Release, earlier: Path | None) -> Digests:
    """Return what to compare with.

    Raises:
        ValueError: the release or the earlier predictions have no digest, or one of another vocabulary.
    """
    held = digests.read(release.path)
    if held.vocabulary != release.vocabulary.digest:
        raise ValueError(f"{release.path}: its digest is of another vocabulary; export the run again")
    if earlier is None:
        return held
    return as_reference(sources.of_predictions(earlier, release.model), held)


def seen_of(source: Path, release: Release) -> Seen:
    """Read predictions, or an audit."""
    if source.is_file():
        return sources.of_audit(source, release.model)
    return sources.of_predictions(source, release.model)


def listing(watched: Watched) -> list[dict[str, Any]]:
    """Return the alarms as plain types, without counts under 10."""
    tables = [
        {"kind": found.question.kind, "name": found.question.name, "cut": found.question.cut, **page.told(found)}
        for found in watched.alarms
    ]
    metrics = [{"kind": "labels", "name": change.metric, **page.changed(change)} for change in watched.worse]
    return tables + metrics


def parser() -> argparse.ArgumentParser:
    """Return the verb's arguments."""
    made = argparse.ArgumentParser(
        "anamnesis monitor",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("release", type=Path, help="made by anamnesis export, with a digest")
    made.add_argument("source", type=Path, help="predictions of anamnesis score, or an audit of anamnesis serve")
    made.add_argument("report", type=Path, help="folder to be made")
    made.add_argument("--labels", type=Path, help="what came after: parquet or CSV, or a folder of parquet files")
    made.add_argument("--reference", type=Path, help="earlier predictions, in place of the patients learnt from")
    made.add_argument("--key", type=Path, help="public key, PEM; a release that is not signed with it is refused")
    made.add_argument(
        "--alpha", type=float, default=noise.ALPHA, help="chance of any alarm where nothing changed (default: 0.01)"
    )
    made.add_argument("--overwrite", action="store_true", help="replace a report that stands there")
    return made


def main(argv: Sequence[str]) -> int:
    """Run the verb; 3 where there is an alarm."""
    given = parser().parse_args(argv)
    watched = monitor(
        given.release,
        given.source,
        given.report,
        labels=given.labels,
        reference=given.reference,
        key=given.key,
        alpha=given.alpha,
        overwrite=given.overwrite,
    )
    for note in watched.notes:
        say(f"note: {note}")
    crossed = len(watched.alarms) + len(watched.worse)
    say(f"{given.report}: {watched.seen.everyone:,} patients, {crossed:,} alarms: {given.report / PAGE}")
    return 3 if crossed else 0
