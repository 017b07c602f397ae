"""Benchmarks one after the other, by topic or by name: `python -m tests.benchmarks [--topic TOPIC] [NAME ...]`."""

import argparse
import importlib.util
import subprocess
import sys

from tests.benchmarks.harness import ROOT

TOPICS = {
    "main": ("prepare", "quality", "packing", "published", "demo", "scoring", "exporting"),
    "compress": (
        "compress.sparsegpt",
        "compress.quality",
        "compress.distilled",
        "compress.ternary",
        "compress.recoverable",
        "compress.sizes",
        "compress.sweep",
        "compress.latency",
        "compress.runtimes",
    ),
    "documents": (
        "documents.generated",
        "documents.long",
        "documents.multitask",
        "documents.encoding",
        "documents.infotabs",
        "documents.compressed",
    ),
    "robust": (
        "robust.parity",
        "robust.cost",
        "robust.trades",
        "robust.shifts",
    ),
    "rethink": ("rethink.strategyqa", "rethink.infotabs", "rethink.neighbours", "rethink.generate", "rethink.patients"),
    "learning": ("learning", "learning.simulating"),
    "scale": (
        "scale.ddp",
        "scale.resume",
        "scale.ray",
        "scale.prepare",
        "scale.fuzz",
        "scale.serving",
        "scale.positions",
        "scale.monitoring",
        "scale.labelled",
    ),
}


def known() -> list[str]:
    """Return the benchmarks that there are, in order."""
    return [name for names in TOPICS.values() for name in names if importlib.util.find_spec(f"tests.benchmarks.{name}")]


def main() -> int:
    """Run benchmarks, each in an interpreter of its own, then the page of figures; 1 where one of them failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(known())}")
    parser.add_argument("--topic", choices=TOPICS, default="main", help="run all of a topic (default: main)")
    given = parser.parse_args()
    names = given.names or list(TOPICS[given.topic])
    unknown = [name for name in names if name not in known()]
    if unknown:
        parser.error(f"no benchmark {unknown[0]}; expected of {', '.join(known())}")
    failed: list[str] = []
    for name in names:
        print(f"== {name}", flush=True)
        command = [sys.executable, "-m", f"tests.benchmarks.{name}"]
        if subprocess.run(command, cwd=ROOT, check=False).returncode:
            failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    command = [sys.executable, "-m", "tests.benchmarks.figures"]
    return int(bool(failed)) or subprocess.run(command, cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main())
