"""`anamnesis robustness`: what corrupted and attacked records cost a run or a release."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from pipelines.progress import say
from pipelines.robustness.running import SUITES, Plan, report

EXAMPLES = """examples:
  anamnesis robustness tuned/ cohort/ hardness/                          white box: gradients too
  anamnesis robustness release/ cohort/ hardness/                        a release answers with scores alone
  anamnesis robustness tuned/ cohort/ hardness/ --suite ehr-c --patients 1000
  anamnesis robustness tuned/ cohort/ hardness/ --code-map icd9-icd10.csv

A stopped run goes on where it was, by the same command.
"""


def parser() -> argparse.ArgumentParser:
    """Return the verb's arguments."""
    made = argparse.ArgumentParser(
        "anamnesis robustness",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("model", type=Path, help="run of anamnesis finetune, or release of anamnesis export")
    made.add_argument("cohort", type=Path, help="what anamnesis prepare made, with labels")
    made.add_argument("report", type=Path, help="folder to be made")
    made.add_argument("--split", default="held_out", help="patients to ask about (default: held_out)")
    made.add_argument("--suite", default=",".join(SUITES), help=f"what to measure (default: {','.join(SUITES)})")
    made.add_argument("--patients", type=int, default=0, help="of the split, at most, by a draw (default: all)")
    made.add_argument("--attacked", type=int, default=100, help="patients who are attacked, at most (default: 100)")
    made.add_argument("--bootstrap", type=int, default=200, help="resamples of patients (default: 200)")
    made.add_argument("--seed", type=int, default=0, help="of corruptions, attacks and resamples (default: 0)")
    made.add_argument("--code-map", type=Path, help="CSV with columns icd_9 and icd_10, for the change of code systems")
    made.add_argument("--workers", type=int, default=0, help="processes (default: all cores)")
    made.add_argument("--overwrite", action="store_true", help="replace a report that stands there")
    return made


def main(argv: Sequence[str]) -> int:
    """Run the verb."""
    given = parser().parse_args(argv)
    plan = Plan(
        split=given.split,
        suites=tuple(name for name in given.suite.split(",") if name),
        patients=given.patients,
        attacked=given.attacked,
        bootstrap=given.bootstrap,
        seed=given.seed,
        code_map=given.code_map,
        workers=given.workers,
        overwrite=given.overwrite,
    )
    manifest = report(given.model, given.cohort, given.report, plan)
    say(f"wrote {given.report}: {manifest['patients']:,} patients; open {given.report / 'report.html'}")
    return 0
