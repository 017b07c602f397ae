"""What one release loses against another on the same held-out patients:

`python -m tests.benchmarks.compress.compare COMPRESSED DENSE COHORT` prints it, with intervals by patient.
"""

import argparse
from pathlib import Path

from ehr.metrics.resampling import interval
from ehr.metrics.scores import MACRO
from tests.benchmarks.compress.distilled import slopes
from tests.benchmarks.compress.quality import answered


def main() -> int:
    """Ask both and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("compressed", "dense", "cohort"):
        parser.add_argument(name, type=Path)
    given = parser.parse_args()
    found = answered({"compressed": given.compressed, "dense": given.dense}, given.cohort)
    macro = found.scores.filter(outcome=MACRO)
    for metric in ("auroc", "auprc"):
        change = macro.filter(metric=f"{metric}_over_dense").row(0, named=True)
        dense = macro.filter(metric=metric, model="dense")["value"].item()
        print(f"{metric}: {change['value']:+.4f} ({change['lower']:+.4f} to {change['upper']:+.4f}), dense {dense:.4f}")
    slope = {arm: slopes(found.asked, held) for arm, held in found.probability.items()}
    value, lower, upper = interval(slope["compressed"] - slope["dense"])
    print(f"slope: {value:+.4f} ({lower:+.4f} to {upper:+.4f}), dense {slope['dense'][0]:.3f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
