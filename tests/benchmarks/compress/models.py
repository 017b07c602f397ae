"""Models that compression is tried on, each trained once by the documented verbs under runs/compress.

`python -m tests.benchmarks.compress.models NAME` trains one; the demo's stands under runs/demo (`make demo`).
"""

import argparse
import subprocess
from pathlib import Path
from typing import NamedTuple

from tests.benchmarks.harness import ROOT, verb

RUNS = ROOT / "runs" / "compress"
SHARED = ROOT.parent / "shared" / "data"
CONFIGS = ROOT / "configs"
PATIENTS, SEED = 30_000, 11
# As docs/how-to/tables.md says it: what the first 48 hours say of death in hospital.
DEATHS = """outcomes:
  hospital_death:
    event: {any_of: [HOSPITAL_DEATH]}
    index: {at: 2000-01-03}
    horizons_days: [30, 365]
    censor: never
"""
EPOCHS = {"simulator": (3, 5), "physionet2012": (3, 3)}
"""Of pretraining and of fine-tuning, so that each model is trained in minutes."""
EXTRA = {"physionet2012": ("--model.summary", "true")}
"""Said to fine-tuning besides: stays of two days are told by last values."""
NAMES = ("demo", "simulator", "physionet2012")


class Trained(NamedTuple):
    """A fine-tuned run and the cohort it was trained on."""

    run: Path
    cohort: Path


def trained(name: str) -> Trained:
    """Return a model that is there.

    Raises:
        ValueError: it is not.
    """
    folder = ROOT / "runs" / "demo" if name == "demo" else RUNS / name
    made = Trained(folder / "finetuned", folder / "cohort")
    if not (made.run / "manifest.json").is_file():
        how = "make demo" if name == "demo" else f"python -m tests.benchmarks.compress.models {name}"
        raise ValueError(f"the model {name} is not there; run `{how}` first")
    return made


def train(name: str) -> Trained:
    """Train a model where an earlier call did not, verb by verb; an interrupted verb goes on."""
    folder = RUNS / name
    records, cohort, pretrained, tuned = (folder / part for part in ("records", "cohort", "pretrained", "finetuned"))
    if name == "simulator":
        arguments = ("--patients", str(PATIENTS), "--seed", str(SEED), "--no-truth")
        source, prepare = records, ("--outcomes", CONFIGS / "demo" / "outcomes.yaml")
        once(verb("simulate", records, *arguments), records)
    else:
        source, outcomes = SHARED / "physionet2012", folder / "outcomes.yaml"
        prepare = ("--columns", CONFIGS / "columns" / "physionet2012.yaml", "--outcomes", outcomes)
        folder.mkdir(parents=True, exist_ok=True)
        outcomes.write_text(DEATHS, encoding="utf-8")
    once(verb("prepare", source, cohort, *prepare), cohort)
    demo = CONFIGS / "demo"
    first, second = (("--trainer.max_epochs", str(epochs)) for epochs in EPOCHS[name])
    learning = ("--cohort", cohort, "--output", pretrained, *first)
    once(verb("pretrain", "--config", demo / "pretrain.yaml", *learning), pretrained)
    tuning = ("--cohort", cohort, "--pretrained", pretrained, "--output", tuned, *second, *EXTRA.get(name, ()))
    once(verb("finetune", "--config", demo / "finetune.yaml", *tuning), tuned)
    return trained(name)


def once(command: list[str], made: Path) -> None:
    """Run a verb whose artefact is not there."""
    if not (made / "manifest.json").is_file():
        done = subprocess.run(command, cwd=ROOT, check=False).returncode
        # 3: done, with rows rejected and listed.
        if done not in (0, 3):
            raise SystemExit(done)


def main() -> int:
    """Train one model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=NAMES[1:])
    print(train(parser.parse_args().name).run)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
