"""`anamnesis evaluate`: how good a run or a release is on a cohort, beside what simpler models reach there."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from pipelines import artefacts
from pipelines.evaluation import Plan, evaluate
from pipelines.progress import say
from pipelines.scoreboard import show

EXAMPLES = """examples:
  anamnesis evaluate tuned/ cohort/ report/
  anamnesis evaluate release/ elsewhere/ report/                                   external validation
  anamnesis evaluate release/ elsewhere/ report/ --recalibrate release-elsewhere/  and fit its probabilities there
  anamnesis evaluate tuned/ cohort/ report/ --no-baselines --bootstrap 200         a quick look
"""


def parser() -> argparse.ArgumentParser:
    """Return the verb's arguments."""
    made = argparse.ArgumentParser(
        "anamnesis evaluate",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("model", type=Path, help="run of anamnesis finetune, or release of anamnesis export")
    made.add_argument("cohort", type=Path, help="what anamnesis prepare made, with labels")
    made.add_argument("report", type=Path, help="folder to be made")
    made.add_argument("--split", default="held_out", help="patients to evaluate on (default: held_out)")
    made.add_argument(
        "--baselines",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="fit logistic regression and gradient boosting on the cohort's training split (default: yes)",
    )
    made.add_argument("--bootstrap", type=int, default=1000, help="resamples of patients (default: 1000)")
    made.add_argument("--seed", type=int, default=0, help="of the resamples (default: 0)")
    made.add_argument(
        "--recalibrate",
        type=Path,
        metavar="RELEASE",
        help="fit the calibration on the cohort's calibration split, evaluate that, and write it as a new release",
    )
    made.add_argument("--overwrite", action="store_true", help="replace a report (and a release) that stands there")
    return made


def main(argv: Sequence[str]) -> int:
    """Run the verb."""
    given = parser().parse_args(argv)
    plan = Plan(
        split=given.split,
        baselines=given.baselines,
        bootstrap=given.bootstrap,
        seed=given.seed,
        recalibrate=given.recalibrate,
        overwrite=given.overwrite,
    )
    manifest = evaluate(given.model, given.cohort, given.report, plan)
    show(given.report)
    for note in manifest["notes"]:
        say(f"note: {note}")
    say(f"wrote {given.report}: open {given.report / 'report.html'}")
    if given.recalibrate:
        say(f"wrote {given.recalibrate}: {artefacts.read_manifest(given.recalibrate, 'release')['kind']}, recalibrated")
    return 0
