"""INFOTABS: an entailment head with the table against one without: `python -m tests.benchmarks.rethink.infotabs`.

The encoder is frozen; its embeddings are kept under runs/. Then the head judges the steps of templated paths whose
answers come from heads that never saw a table, and the paths vote.
"""

import argparse
import sys
import time

import numpy as np
import torch

from pipelines.rethink.controls import Resampler, another
from pipelines.rethink.crossing import Crossing, evaluate, told
from pipelines.rethink.evidence import Support, divide
from pipelines.rethink.paths import DENIAL, STATEMENT, Path, Step
from pipelines.rethink.polling import poll
from pipelines.rethink.text import head, infotabs
from pipelines.rethink.text.judging import TextScorer
from pipelines.rethink.text.pools import given as candidates
from pipelines.rethink.text.similarity import SentenceEncoder, packaged
from tests.benchmarks.harness import ROOT, RUNS, Figure

COMMAND = "python -m tests.benchmarks.rethink.infotabs"
DATA = ROOT.parent / "shared" / "data" / "infotabs"
KEPT = RUNS / "rethink-infotabs.npz"
TABLES = 800
"""Training tables that are read, of 1,740."""
SEEDS, RESAMPLES, PATHS = (0, 1, 2), 2000, 9
CHUNK = 1600
"""Texts that are embedded before they are kept."""


class Kept(SentenceEncoder):
    """The packaged encoder, its embeddings kept on disk, so that a stopped run goes on."""

    def __init__(self) -> None:
        """Take what an earlier run left."""
        super().__init__(packaged())
        if KEPT.is_file():
            with np.load(KEPT) as left:
                self.held.update(zip(left["text"].tolist(), left["embedding"], strict=True))

    def encode(self, texts):
        """Embed in chunks, each kept."""
        fresh = sorted({text for text in texts if text not in self.held}, key=lambda text: (len(text), text))
        for begin in range(0, len(fresh), CHUNK):
            super().encode(fresh[begin : begin + CHUNK])
            KEPT.parent.mkdir(parents=True, exist_ok=True)
            np.savez(KEPT.with_suffix(".partial.npz"), text=np.array(list(self.held)), embedding=np.stack(list(self.held.values())))  # fmt: skip  # noqa: E501
            KEPT.with_suffix(".partial.npz").rename(KEPT)
        return super().encode(texts)


def by_table(value: np.ndarray, tables: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the sum of a value over the pairs of each table, and their number."""
    _, place = np.unique(tables, return_inverse=True)
    return np.bincount(place, value), np.bincount(place).astype(float)


def interval(value: np.ndarray, tables: list[str]) -> tuple[float, float, float]:
    """Return the mean over pairs and its interval, tables resampled, in points."""
    sums, number = by_table(value, tables)
    weight = Resampler(len(sums), RESAMPLES, 0).weight
    lower, upper = np.percentile((weight @ sums) / (weight @ number), [2.5, 97.5]).tolist()
    return 100 * float(value.mean()), 100 * lower, 100 * upper


def rethinking(pairs, said: dict[str, str], blind, made, encoder: SentenceEncoder) -> None:
    """Let paths of heads that saw no table vote, weighed by what the head with the table says of their steps.

    A path's one step is the hypothesis where it answers yes, and its denial where it answers no.
    """
    kept = [pair for pair in pairs if pair.label != 1]
    taken = head.prepare([said[pair.table_id] for pair in kept], [pair.hypothesis for pair in kept], encoder, hypothesis_only=True)  # fmt: skip  # noqa: E501
    paths: list[Path] = []
    answers = [head.probabilities(own, taken) for own in blind]
    for at, pair in enumerate(kept):
        for number, own in enumerate(answers):
            yes = bool(own[at, 0] >= own[at, 2])
            step = Step(pair.hypothesis, STATEMENT if yes else DENIAL)
            paths.append(Path(str(at), f"{number}", f"head {number}", (step,), "yes" if yes else "no"))
    names = sorted({pair.table_id for pair in kept})
    row = {name: at for at, name in enumerate(names)}
    texts = [said[name] for name in names]
    own = [np.array([row[pair.table_id]]) for pair in kept for _ in blind]
    other = another(len(names), 0)
    swapped = [np.array([other[row[pair.table_id]]]) for pair in kept for _ in blind]
    scorer = TextScorer(encoder, head.AlignmentHead(made, encoder, hypothesis_only=False))
    steps = [step for path in paths for step in path.steps]
    supports: dict[str, list[Support]] = {
        name: divide(scorer.support(steps, candidates(steps, rows, texts)), [1] * len(paths))
        for name, rows in (("the table", own), ("another table", swapped))
    }
    held = poll(paths, [str(at) for at in range(len(kept))], ("yes", "no"))
    truth = ["yes" if pair.label == 0 else "no" for pair in kept]
    settings = Crossing(kind="f3", repeats=2)
    arms = evaluate(held, truth, supports, settings)
    rows = told(arms, settings)
    for one in rows:
        print(f"{one['arm']}: {100 * one['accuracy']['value']:.2f}", file=sys.stderr)
    right = {arm.name: arm.right for arm in arms}
    tables = [pair.table_id for pair in kept]
    for name, arm in (("rethinking_gain", "f1 mean, the table"), ("rethinking_f3_gain", "f3 mean, the table"),
                      ("rethinking_weights_gain", "source weights + the table"),
                      ("rethinking_swapped_gain", "f1 mean, another table")):  # fmt: skip
        rival = "source weights" if "weights" in name else "majority"
        value, lower, upper = interval(right[arm] - right[rival], tables)
        Figure(
            name=f"rethink.infotabs.{name}",
            value=value,
            unit="points",
            command=COMMAND,
            rival=f"{rival} of {len(blind)} heads that saw no table",
            rival_value=100 * float(right[rival].mean()),
            lower=lower,
            upper=upper,
            count=len(kept),
            seeds=SEEDS[:1],
            note=f"{arm}: {100 * float(right[arm].mean()):.2f}; neutral pairs dropped; paths are templated: each is a "
            "head trained on another bootstrap of the hypotheses alone, its step the hypothesis or its denial; no "
            "language model took part; ties count half; tables resampled; dev and test_alpha1",
        ).write()


def main() -> int:
    """Measure both heads, then rethink with the one that sees the table."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    torch.set_num_threads(1)
    started = time.perf_counter()
    tables, encoder = infotabs.read_tables(DATA), Kept()
    said = {name: infotabs.passage(table) for name, table in tables.items()}
    pairs = {split: infotabs.read_pairs(DATA, split) for split in infotabs.SPLITS}
    names = sorted({pair.table_id for pair in pairs["train"]})
    chosen = set(np.random.default_rng(0).permutation(names)[:TABLES].tolist())
    train = [pair for pair in pairs["train"] if pair.table_id in chosen]
    test = pairs["dev"] + pairs["test_alpha1"]
    taken = {}
    for part, held in (("test", test), ("train", train)):
        for hidden in (True, False):
            given = [said[pair.table_id] for pair in held], [pair.hypothesis for pair in held]
            taken[part, hidden] = head.prepare(*given, encoder, hypothesis_only=hidden)
        print(f"{part}: {len(held):,} pairs after {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    label = {part: np.array([pair.label for pair in held]) for part, held in (("train", train), ("test", test))}
    group = [pair.table_id for pair in train]
    hits: dict[bool, list[np.ndarray]] = {True: [], False: []}
    models = []
    for seed in SEEDS:
        for hidden in (True, False):
            made, tuned = head.train(taken["train", hidden], label["train"], group, head.Training(hypothesis_only=hidden, seed=seed))  # fmt: skip  # noqa: E501
            hit = head.probabilities(made, taken["test", hidden]).argmax(1) == label["test"]
            hits[hidden].append(hit)
            print(
                f"seed {seed}, hidden {hidden}: tuning {tuned:.4f}, test {hit.mean():.4f}", file=sys.stderr, flush=True
            )
            if not hidden:
                models.append(made)
    ours, blind = (np.mean(hits[hidden], axis=0) for hidden in (False, True))
    value, lower, upper = interval(ours - blind, [pair.table_id for pair in test])
    parts = ", ".join(
        f"{split} {100 * ours[rows].mean():.1f} against {100 * blind[rows].mean():.1f}"
        for split, rows in (("dev", slice(0, len(pairs["dev"]))), ("test_alpha1", slice(len(pairs["dev"]), None)))
    )
    Figure(
        name="rethink.infotabs.over_hypothesis_only_gain",
        value=value,
        unit="points",
        command=COMMAND,
        rival="the same head without the table",
        rival_value=100 * float(blind.mean()),
        lower=lower,
        upper=upper,
        count=len(test),
        seeds=SEEDS,
        note=f"accuracy {100 * float(ours.mean()):.1f}, chance 33.3; {parts}; MiniLM frozen, words and numbers aligned "
        f"with the table; {len(train):,} pairs of {TABLES} of {len(names):,} training tables; settings "
        "not tuned; tables resampled",
    ).write()
    bags = []
    for number in range(PATHS):
        rows = np.random.default_rng(number).integers(len(train), size=len(train))
        settings = head.Training(hypothesis_only=True, seed=number, epochs=4)
        bags.append(head.train(taken["train", True].rows(rows), label["train"][rows], [group[at] for at in rows], settings)[0])  # fmt: skip  # noqa: E501
    rethinking(test, said, bags, models[0], encoder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
