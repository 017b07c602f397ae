"""StrategyQA, twelve recorded chains a question: `python -m tests.benchmarks.rethink.strategyqa`.

Embeddings take minutes; the support of an earlier run under runs/ is used again unless `--anew` is given.
"""

import argparse
import json
import sys
from pathlib import Path

from pipelines.rethink.cli import main as rethink
from tests.benchmarks.harness import ROOT, RUNS, Figure

COMMAND = "python -m tests.benchmarks.rethink.strategyqa"
DATA = ROOT.parent / "shared" / "data"
QUESTIONS, CHAINS = DATA / "strategyqa" / "train.json.gz", DATA / "strategyqa_chains" / "chains_train.jsonl.gz"
OUTPUT = RUNS / "rethink-strategyqa"
PRIMARY = "pool without own facts"
SOURCES = "source weights"


def run(output: Path, support: Path | None, entailment: Path | None) -> dict:
    """Run the verb and return its report."""
    words = [
        "text",
        "--questions",
        QUESTIONS,
        "--chains",
        CHAINS,
        "--facts",
        QUESTIONS,
        "--output",
        output,
        "--overwrite",
    ]
    words += ["--support", support] if support else []
    words += ["--entailment", entailment] if entailment else []
    if rethink([str(word) for word in words]):
        raise SystemExit(1)
    return json.loads((output / "report.json").read_text(encoding="utf-8"))


def points(held: dict) -> dict[str, float]:
    """Return a share and its interval in points."""
    return {name: 100 * held[name] for name in ("value", "lower", "upper")}


def figures(found: dict, suffix: str, told: str) -> None:
    """Write the figures of one run."""
    arms = {own["arm"]: own for own in found["arms"]}
    common = {"command": COMMAND, "count": found["questions"], "seeds": (0,)}
    if not suffix:
        accuracy = points(arms[SOURCES]["accuracy"])
        majority = points(arms["majority"]["accuracy"])
        gain = points(arms[SOURCES]["over_majority"])
        Figure(
            name="rethink.strategyqa.source_weights",
            value=accuracy["value"],
            unit="points",
            rival="majority of the chains, ties counted half",
            rival_value=majority["value"],
            lower=gain["lower"],
            upper=gain["upper"],
            note=f"five folds, five times; interval of the difference; the majority with ties counted as wrong: "
            f"{100 * arms['majority']['ties_wrong']:.2f}, {arms['majority']['ties']} ties; {found['unparsed']:,} of "
            f"{found['paths']:,} chains state no answer",
            **common,
        ).write()
        swapped = found["auroc"]["similarity, another's facts"]
        f1 = found["auroc"]["f1, another's facts"]["mean"]
        Figure(
            name="rethink.strategyqa.swapped_auroc",
            value=swapped["mean"],
            unit="AUROC",
            note=f"mean over {len(swapped['by_source'])} sources of the AUROC of a path's mean similarity to another "
            f"question's facts; by f1 {f1:.3f}; with the question's own facts "
            f"{found['auroc']['similarity, own facts']['mean']:.3f}, from the whole pool "
            f"{found['auroc']['similarity, whole pool']['mean']:.3f}, without its own "
            f"{found['auroc'][f'similarity, {PRIMARY}']['mean']:.3f}",
            **common,
        ).write()
    for evidence, name in ((PRIMARY, "evidence_gain"), ("whole pool", "pool_gain"), ("own facts", "own_facts_gain"),
                           ("another's facts", "swapped_gain"), ("number of steps", "steps_gain")):  # fmt: skip
        arm = arms[f"{SOURCES} + {evidence}"]
        gain = points(arm["over_source_weights"])
        chosen = ", ".join(f"{gamma} in {number}" for gamma, number in arm["gammas"].items())
        Figure(
            name=f"rethink.strategyqa.{name}{suffix}",
            value=gain["value"],
            unit="points",
            rival="source weights alone",
            rival_value=100 * arms[SOURCES]["accuracy"]["value"],
            lower=gain["lower"],
            upper=gain["upper"],
            note=f"{told}; gamma was {chosen} of {sum(arm['gammas'].values())} fits",
            **common,
        ).write()


def main() -> int:
    """Measure the default arm and what it is held against, then the same with an entailment head."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--anew", action="store_true", help="embed and retrieve again")
    parser.add_argument(
        "--entailment", type=Path, help="a head of anamnesis rethink entailment: measures its arms alone"
    )
    given = parser.parse_args()
    kept = OUTPUT if (OUTPUT / "manifest.json").is_file() and not given.anew else None
    if given.entailment is None:
        figures(run(OUTPUT, kept, None), "", "mean f1 of cosines, no entailment model")
    else:
        figures(run(OUTPUT.with_name("rethink-strategyqa-entailment"), None, given.entailment), ".entailment",
                "mean f1 with the entailment head trained on INFOTABS")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
