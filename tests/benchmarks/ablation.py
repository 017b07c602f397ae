"""The published recipe's own ablation, on a prepared cohort: `python -m tests.benchmarks.ablation --cohort cohort/`.

Visit or code masking, encoder and decoder or encoder alone, with or without dates; mean AUROC and average precision
over outcomes and horizons on the held-out split. Each arm leaves a part, so that the command goes on where it stopped.
"""

import argparse
import hashlib
import json
from pathlib import Path

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

from pipelines import artefacts, rivals
from pipelines.cohort import open_cohort
from pipelines.samples import questions_of
from tests.benchmarks.harness import ROOT, RUNS

CONFIG = ROOT / "configs" / "rivals" / "published.yaml"
ARMS = {
    "published": (),
    "code masking": ("masking", "code"),
    "encoder only": ("decoder", "false"),
    "no dates": ("dates", "false"),
}
LEAST = 10
"""Positives under which an outcome is left out."""


def scores(label: np.ndarray, probability: np.ndarray) -> dict[str, float]:
    """Return mean AUROC and average precision over outcomes and horizons with enough positives."""
    found: list[tuple[float, float]] = []
    for k, h in np.ndindex(*label.shape[1:]):
        there = ~np.isnan(label[:, k, h])
        truth, given = label[there, k, h], probability[there, k, h]
        if LEAST <= truth.sum() < len(truth):
            found.append((float(roc_auc_score(truth, given)), float(average_precision_score(truth, given))))
    if not found:
        raise SystemExit(f"no outcome has {LEAST} positives on the split; give a larger cohort")
    auroc, auprc = np.mean(found, axis=0)
    return {"outcomes": len(found), "auroc": float(auroc), "auprc": float(auprc)}


def main() -> int:
    """Train what is missing and print one line an arm."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cohort", type=Path, required=True)
    parser.add_argument("--split", default="held_out")
    parser.add_argument("--config", type=Path, default=CONFIG)
    given, rest = parser.parse_known_args()
    cohort = open_cohort(given.cohort)
    asked = questions_of(cohort, given.split)
    words = [artefacts.digest(given.cohort / artefacts.MANIFEST), given.config.read_text(), given.split, *rest]
    task = hashlib.sha256("\n".join(words).encode()).hexdigest()[:12]
    for arm, keys in ARMS.items():
        part = RUNS / "ablation" / f"{task}-{arm.replace(' ', '-')}.json"
        if not part.is_file():
            more = [f"--recipe.init_args.{keys[0]}", keys[1]] if keys else []
            found = rivals.answer(cohort, rivals.read(given.config, [*rest, *more]), asked)
            part.parent.mkdir(parents=True, exist_ok=True)
            artefacts.write_json(part, scores(asked.label, found))
        told = json.loads(part.read_text())
        print(
            f"{arm:14} AUROC {told['auroc']:.3f}  AUPRC {told['auprc']:.3f}  ({told['outcomes']} outcomes)", flush=True
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
