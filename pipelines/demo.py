"""`anamnesis demo`: the main job on a simulated cohort, by the same commands a user types."""

import argparse
import json
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from pipelines.artefacts import write_json
from pipelines.cli import DONE, REJECTED
from pipelines.progress import say

EXAMPLES = """examples:
  anamnesis demo                        everything under runs/demo
  anamnesis demo --output /tmp/try      elsewhere
"""
CONFIGS = Path(__file__).resolve().parent.parent / "configs" / "demo"
PATIENTS, SEED = 20_000, 7
FRACTIONS = "0.6,0.1,0.1,0.2"


def steps(folder: Path) -> list[tuple[str, ...]]:
    """Return the demo's commands in order, each as the arguments of `anamnesis`."""
    records, cohort, release = folder / "records", folder / "cohort", folder / "release"
    pretrained, tuned = folder / "pretrained", folder / "finetuned"
    commands: list[tuple[str | Path, ...]] = [
        ("simulate", records, "--patients", str(PATIENTS), "--seed", str(SEED)),
        ("prepare", records, cohort, "--outcomes", CONFIGS / "outcomes.yaml", "--fractions", FRACTIONS),
        ("pretrain", "--config", CONFIGS / "pretrain.yaml", "--cohort", cohort, "--output", pretrained),
        (
            *("finetune", "--config", CONFIGS / "finetune.yaml", "--cohort", cohort),
            *("--pretrained", pretrained, "--output", tuned),
        ),
        ("evaluate", tuned, cohort, folder / "report"),
        ("export", tuned, release, "--cohort", cohort, "--report", folder / "report"),
        ("score", release, records, folder / "predictions"),
    ]
    return [tuple(str(word) for word in command) for command in commands]


def target_of(command: Sequence[str]) -> Path:
    """Return the folder that a command makes: the one after --output, else its last path."""
    if "--output" in command:
        return Path(command[command.index("--output") + 1])
    makes_third = {"prepare": 2, "evaluate": 3, "export": 2, "score": 3}
    return Path(command[makes_third.get(command[0], 1)])


def run(command: Sequence[str]) -> float:
    """Run one verb in an interpreter of its own and return its seconds.

    Raises:
        ValueError: the verb ended with another code than 0, or 3 (some rows rejected: score has no answer for the
            dead, and lists them).
    """
    say(f"\n$ anamnesis {shlex.join(command)}")
    started = time.monotonic()
    code = subprocess.run([sys.executable, "-m", "pipelines.cli", *command], check=False).returncode
    if code not in (DONE, REJECTED):
        raise ValueError(f"anamnesis {command[0]} ended with code {code}; what it says stands above")
    return time.monotonic() - started


def main(argv: Sequence[str]) -> int:
    """Run the demo; steps that an earlier run finished are not run again."""
    parser = argparse.ArgumentParser(
        "anamnesis demo",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--output", type=Path, default=Path("runs/demo"), help="folder to fill (default: runs/demo)")
    folder = parser.parse_args(argv).output
    folder.mkdir(parents=True, exist_ok=True)
    record = folder / "seconds.json"
    seconds: dict[str, float] = json.loads(record.read_text()) if record.is_file() else {}
    for command in steps(folder):
        if target_of(command).is_dir():
            say(f"\n{target_of(command)}: made by an earlier run, kept")
            continue
        seconds[command[0]] = round(run(command), 1)
        write_json(record, seconds)
    say(f"\n{sum(seconds.values()) / 60:.1f} minutes in all. Open next:")
    for name in ("report/report.html", "release/card.md", "predictions"):
        say(f"  {folder / name}")
    return 0
