"""Who learns best: one cohort, arm and seed a call, resumable; or all of them; and the figures that parts give.

python -m tests.benchmarks.learning --cohort physionet2012 --arm boosting --seed 0
python -m tests.benchmarks.learning --cohort simulator.frailty --arm ours --seed 0 --labelled 1
python -m tests.benchmarks.learning                whatever is missing, then the figures
python -m tests.benchmarks.learning --figures      the figures alone, from the parts that stand there
"""

import argparse

from tests.benchmarks.learning import figures
from tests.benchmarks.learning.arms import ARMS, Job
from tests.benchmarks.learning.cohorts import BUDGETS, PLANS
from tests.benchmarks.learning.parts import make

STRONG = ("ours", "boosting", "logistic")
SEEDS = 5
QUICK = ("physionet2012", "diabetes130")


def jobs(*, quick: bool) -> list[Job]:
    """Return every job in the order in which they are worth having; a quick pass takes two cohorts and one seed."""
    cohorts = QUICK if quick else tuple(PLANS)
    first = [Job(cohort, arm, 0, 100) for cohort in cohorts for arm in ARMS]
    budgets = [
        Job(cohort, arm, 0, labelled) for cohort in cohorts for labelled in BUDGETS for arm in ("ours", "scratch")
    ]
    simulators = [cohort for cohort in cohorts if PLANS[cohort].mechanism]
    more = [Job(cohort, arm, seed, 100) for seed in range(1, SEEDS) for cohort in simulators for arm in STRONG]
    return first if quick else [*first, *budgets, *more]


def main() -> int:
    """Run one job, or all, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cohort", choices=PLANS)
    parser.add_argument("--arm", choices=ARMS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--labelled", type=int, default=100, help="percent of the training patients with labels")
    parser.add_argument("--figures", action="store_true", help="write the figures alone")
    parser.add_argument("--quick", action="store_true", help="two cohorts, one seed")
    given = parser.parse_args()
    if (given.cohort is None) != (given.arm is None):
        parser.error("--cohort and --arm go together")
    if not 1 <= given.labelled <= 100:
        parser.error(f"--labelled is {given.labelled}; expected 1 to 100")
    if not given.figures:
        asked = [Job(given.cohort, given.arm, given.seed, given.labelled)] if given.arm else jobs(quick=given.quick)
        for job in asked:
            print(f"== {job.cohort}, {job.name}", flush=True)
            part = make(job)
            for split in PLANS[job.cohort].tests:
                told = {name: values[0] for name, values in part[split]["replicates"].items()}
                print(split, part[split]["samples"], told, flush=True)
        if given.arm:
            return 0
    figures.write()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
