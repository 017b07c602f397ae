"""`anamnesis prepare`: raw records to a cohort: checked, split, tokenised and labelled."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from ehr.quality.thresholds import Thresholds
from ehr.splits import FRACTIONS, check_fractions
from ehr.vocabulary import Settings
from pipelines import artefacts, tables
from pipelines.passes import Plan
from pipelines.preparation import prepare, relabel
from pipelines.progress import say

EXAMPLES = """examples:
  anamnesis prepare records/ cohort/ --outcomes configs/demo/outcomes.yaml
  anamnesis prepare omop/ cohort/ --format omop --outcomes outcomes.yaml --quality configs/quality.yaml
  anamnesis prepare stays/ cohort/ --columns configs/columns/physionet2012.yaml --outcomes outcomes.yaml
  anamnesis prepare cohort/ labelled/ --outcomes more.yaml     label a prepared cohort for other outcomes
"""


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
    made.add_argument("--splits", type=Path, help="table of subject_id and split (parquet, CSV), in place of the hash")
    made.add_argument("--whole-tuning", action="store_true", help="take no half of given tuning patients to calibrate")
    made.add_argument("--exclude", action="append", default=[], help="code pattern that is never input; repeatable")
    made.add_argument("--min-patients", type=int, default=Settings.min_patients, help="training patients a token needs")
    made.add_argument("--changes", action="store_true", help="tell every change of a value within a visit")
    made.add_argument("--repair", action="store_true", help="sort what should have come sorted")
    made.add_argument("--no-gates", action="store_true", help="hold no gates; rows that cannot be used still go")
    made.add_argument("--row-level", action="store_true", help="count row by row over pandas too; several times slower")
    made.add_argument("--data-docs", action="store_true", help="add Great Expectations' pages; they load public hosts")
    made.add_argument("--overwrite", action="store_true", help="replace a cohort that stands there")
    made.add_argument("--workers", type=int, help="processes (default: all cores)")
    made.add_argument("--engine", default="local", help="local, or ray: the machines of a Ray cluster (default: local)")
    return made


def refuse_settled(given: argparse.Namespace) -> None:
    """Refuse what a prepared cohort has settled already."""
    free = {"source", "cohort", "outcomes", "labels", "overwrite", "workers"}
    for name, value in vars(given).items():
        if name not in free and value != parser().get_default(name):
            flag = "--" + name.replace("_", "-")
            raise ValueError(f"{flag}: {given.source} is a cohort, whose tokens stay as they are; leave it out")


def main(argv: Sequence[str]) -> int:
    """Run the verb; 3 where rows were rejected and listed."""
    given = parser().parse_args(argv)
    if given.outcomes and given.labels:
        raise ValueError("--outcomes and --labels were both given; expected one of them")
    if artefacts.kind_of(given.source) == "cohort":
        refuse_settled(given)
        manifest = relabel(
            given.source,
            given.cohort,
            outcomes=given.outcomes,
            labels=given.labels,
            overwrite=given.overwrite,
            workers=given.workers,
        )
    else:
        try:
            fractions = check_fractions([float(part) for part in given.fractions.split(",")])
        except ValueError as error:
            raise ValueError(f"--fractions {given.fractions}: {error}") from None
        plan = Plan(
            fractions=fractions,
            seed=given.seed,
            splits=given.splits,
            halve=not given.whole_tuning,
            tokens=Settings(
                min_patients=given.min_patients, exclude=(*Settings.exclude, *given.exclude), changes=given.changes
            ),
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
            engine=given.engine,
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
