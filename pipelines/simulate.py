"""`anamnesis simulate`: records with known true risk, as MEDS."""

import argparse
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from ehr.simulator import cohort
from ehr.simulator.cohort import Span
from pipelines import artefacts
from pipelines.pool import cores, pool
from pipelines.progress import Track, say

EXAMPLES = """examples:
  anamnesis simulate runs/records --patients 20000 --seed 7
  anamnesis simulate runs/frail --patients 20000 --seed 7 --mechanism frailty
  anamnesis simulate runs/large --patients 500000 --seed 1 --no-truth     events alone, four times as fast
  anamnesis prepare runs/records runs/cohort --outcomes configs/demo/outcomes.yaml
"""
MEDS_VERSION = "0.4.1"
GROUP_ROWS = 250_000
EVENTS_ARROW = pa.schema(
    [
        pa.field("subject_id", pa.int64(), nullable=False),
        ("time", pa.timestamp("us")),
        pa.field("code", pa.string(), nullable=False),
        ("numeric_value", pa.float32()),
        ("text_value", pa.large_string()),
    ]
)
TRUTH_ARROW = pa.schema(
    [
        pa.field("subject_id", pa.int64(), nullable=False),
        pa.field("prediction_time", pa.timestamp("us"), nullable=False),
        ("outcome", pa.string()),
        ("horizon_days", pa.int32()),
        ("risk", pa.float32()),
    ]
)
CODES_ARROW = pa.schema(
    [
        pa.field("code", pa.string(), nullable=False),
        ("description", pa.string()),
        ("parent_codes", pa.list_(pa.string())),
    ]
)


class Task(NamedTuple):
    """One file to be drawn and written."""

    number: int
    folder: Path
    span: Span
    seed: int
    mechanism: str
    with_truth: bool


class Counts(NamedTuple):
    """What one file holds."""

    patients: int
    events: int
    risks: int


def write(frame: pl.DataFrame, path: Path, schema: pa.Schema) -> None:
    """Write a table; its bytes hang on its rows alone, not on threads."""
    pq.write_table(frame.to_arrow().cast(schema), path, row_group_size=GROUP_ROWS, compression="zstd")


def make(task: Task) -> Counts:
    """Draw one file of events and, where asked for, one of true risks."""
    events, risks = cohort.draw(task.span, seed=task.seed, mechanism=task.mechanism, with_truth=task.with_truth)
    write(events, task.folder / "data" / f"{task.number:04}.parquet", EVENTS_ARROW)
    if task.with_truth:
        write(risks, task.folder / "truth" / f"{task.number:04}.parquet", TRUTH_ARROW)
    return Counts(events["subject_id"].n_unique(), len(events), len(risks))


def describe(folder: Path, patients: int, seed: int, mechanism: str) -> None:
    """Write the metadata of a MEDS dataset; it carries no date, so that equal cohorts have equal bytes."""
    (folder / "metadata").mkdir()
    content = {
        "dataset_name": "anamnesis-simulator",
        "dataset_version": f"{mechanism}, {patients} patients, seed {seed}",
        "etl_name": "anamnesis simulate",
        "etl_version": version("anamnesis"),
        "meds_version": MEDS_VERSION,
    }
    artefacts.write_json(folder / "metadata" / "dataset.json", content)
    write(cohort.codes(mechanism), folder / "metadata" / "codes.parquet", CODES_ARROW)


def simulate(
    target: Path,
    *,
    patients: int,
    seed: int,
    mechanism: str = cohort.SEMI_MARKOV,
    with_truth: bool = True,
    overwrite: bool = False,
    workers: int | None = None,
) -> dict[str, Any]:
    """Write a cohort and return its manifest.

    Args:
        target: folder to be made: data/, metadata/ and truth/.
        patients: their number; the first of them are the same whatever it is.
        seed: of the cohort.
        mechanism: semi_markov, frailty or hidden_types.
        with_truth: whether to work out true risks.
        overwrite: replace records that stand there.
        workers: processes; all cores where None. The bytes do not hang on it.

    Raises:
        ValueError: a number is out of range, or the folder may not be replaced.
    """
    cohort.check(patients, seed)
    if mechanism not in cohort.MECHANISMS:
        raise ValueError(f"--mechanism is {mechanism}; expected one of {', '.join(cohort.MECHANISMS)}")
    if workers is not None and workers < 1:
        raise ValueError(f"--workers is {workers}; expected 1 or more")
    spans = cohort.spans(patients)
    with artefacts.build(target, overwrite=overwrite) as folder:
        for part in ("data", "truth") if with_truth else ("data",):
            (folder / part).mkdir()
        tasks = [Task(number, folder, span, seed, mechanism, with_truth) for number, span in enumerate(spans)]
        made: list[Counts] = []
        with pool(min(workers or cores(), len(tasks))) as workforce, Track("simulating, patients", patients) as bar:
            for counts in workforce.map(make, tasks):
                made.append(counts)
                bar.advance(counts.patients)
        describe(folder, patients, seed, mechanism)
        return artefacts.write_manifest(
            folder,
            "records",
            mechanism=mechanism,
            seed=seed,
            patients=sum(counts.patients for counts in made),
            events=sum(counts.events for counts in made),
            risks=sum(counts.risks for counts in made),
        )


def parser() -> argparse.ArgumentParser:
    """Return the verb's arguments."""
    made = argparse.ArgumentParser(
        "anamnesis simulate",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("cohort", type=Path, help="folder to be made: a MEDS dataset, with truth/ beside its data/")
    made.add_argument("--patients", type=int, required=True, help="their number")
    made.add_argument("--seed", type=int, required=True, help="of the random numbers: equal seeds, equal bytes")
    shown = (
        "semi_markov (diseases that raise one another), frailty (a hidden level, visits that bring visits) or "
        "hidden_types (each with a chain of complaints of its own)"
    )
    made.add_argument("--mechanism", default=cohort.SEMI_MARKOV, help=f"{shown} (default: semi_markov)")
    made.add_argument("--overwrite", action="store_true", help="replace records that stand there")
    made.add_argument("--workers", type=int, help="processes (default: all cores)")
    made.add_argument("--no-truth", action="store_true", help="leave out the true risks")
    return made


def main(argv: Sequence[str]) -> int:
    """Run the verb."""
    given = parser().parse_args(argv)
    manifest = simulate(
        given.cohort,
        patients=given.patients,
        seed=given.seed,
        mechanism=given.mechanism,
        with_truth=not given.no_truth,
        overwrite=given.overwrite,
        workers=given.workers,
    )
    say(
        f"{given.cohort}: {manifest['patients']:,} patients, {manifest['events']:,} events, "
        f"{manifest['risks']:,} true risks"
    )
    return 0
