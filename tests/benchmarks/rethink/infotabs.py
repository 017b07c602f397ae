"""INFOTABS: an entailment head with the table against one without: `python -m tests.benchmarks.rethink.infotabs`.

Both see words and numbers alone, no sentence embedding, so that all training pairs are read in minutes. Then the head
judges the steps of templated paths whose answers come from heads that never saw a table, and the paths vote.
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
from tests.benchmarks.harness import ROOT, Figure

COMMAND = "python -m tests.benchmarks.rethink.infotabs"
DATA = ROOT.parent / "shared" / "data" / "infotabs"
SEEDS, EPOCHS, RESAMPLES, PATHS = (0, 1), 6, 2000, 5


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


def judged(made: head.PairHead, premises: list[str], hypotheses: list[str], paths: list[Path]) -> Support:
    """Return what the head with the table says of paths' steps; nothing is embedded, so M is 0 and f1 is E less C."""
    found = head.AlignmentHead(made, None, hypothesis_only=False).judge(premises, hypotheses)
    found = found[[int(path.question_id) for path in paths]]
    # What entails a statement contradicts its denial, and the other way round.
    denied = np.array([path.steps[0].kind == DENIAL for path in paths])
    nothing = np.zeros(len(paths), dtype=np.float32)
    sides = np.where(denied, found[:, 2], found[:, 0]), np.where(denied, found[:, 0], found[:, 2])
    return Support(nothing, *sides, np.zeros(len(paths), dtype=np.int64), np.zeros(len(paths), dtype=np.int32))


def rethinking(pairs, said: dict[str, str], blind, made: head.PairHead) -> None:
    """Let paths of heads that saw no table vote, weighed by what the head with the table says of their steps.

    A path's one step is the hypothesis where it answers yes, and its denial where it answers no.
    """
    kept = [pair for pair in pairs if pair.label != 1]
    given = [said[pair.table_id] for pair in kept], [pair.hypothesis for pair in kept]
    answers = [head.probabilities(own, head.prepare(*given, None, hypothesis_only=True)) for own in blind]
    paths: list[Path] = []
    for at, pair in enumerate(kept):
        for number, own in enumerate(answers):
            yes = bool(own[at, 0] >= own[at, 2])
            step = Step(pair.hypothesis, STATEMENT if yes else DENIAL)
            paths.append(Path(str(at), f"{number}", f"head {number}", (step,), "yes" if yes else "no"))
    names = sorted({pair.table_id for pair in kept})
    other = dict(zip(names, (names[at] for at in another(len(names), 0).tolist()), strict=True))
    supports = {
        name: divide(judged(made, premises, given[1], paths), [1] * len(paths))
        for name, premises in (
            ("the table", given[0]),
            ("another table", [said[other[pair.table_id]] for pair in kept]),
        )
    }
    held = poll(paths, [str(at) for at in range(len(kept))], ("yes", "no"))
    truth = ["yes" if pair.label == 0 else "no" for pair in kept]
    settings = Crossing(kind="f1", repeats=1)
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
    said = {name: infotabs.passage(table) for name, table in infotabs.read_tables(DATA).items()}
    pairs = {split: infotabs.read_pairs(DATA, split) for split in infotabs.SPLITS}
    train, test = pairs["train"], pairs["dev"] + pairs["test_alpha1"]
    given = {part: ([said[pair.table_id] for pair in held], [pair.hypothesis for pair in held])
             for part, held in (("train", train), ("test", test))}  # fmt: skip
    taken = {
        (part, hidden): head.prepare(*given[part], None, hypothesis_only=hidden)
        for part in given
        for hidden in (True, False)
    }
    print(f"aligned after {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    label = {part: np.array([pair.label for pair in held]) for part, held in (("train", train), ("test", test))}
    group = [pair.table_id for pair in train]
    hits: dict[bool, list[np.ndarray]] = {True: [], False: []}
    models = []
    for seed in SEEDS:
        for hidden in (True, False):
            settings = head.Training(hypothesis_only=hidden, embeddings=False, seed=seed, epochs=EPOCHS)
            made, tuned = head.train(taken["train", hidden], label["train"], group, settings)
            hit = head.probabilities(made, taken["test", hidden]).argmax(1) == label["test"]
            hits[hidden].append(hit)
            print(
                f"seed {seed}, hidden {hidden}: tuning {tuned:.4f}, test {hit.mean():.4f}", file=sys.stderr, flush=True
            )
            if not hidden:
                models.append(made)
    ours, blind = (np.mean(hits[hidden], axis=0) for hidden in (False, True))
    value, lower, upper = interval(ours - blind, [pair.table_id for pair in test])
    edge = len(pairs["dev"])
    parts = ", ".join(
        f"{split} {100 * ours[rows].mean():.1f} against {100 * blind[rows].mean():.1f}"
        for split, rows in (("dev", slice(0, edge)), ("test_alpha1", slice(edge, None)))
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
        note=f"accuracy {100 * float(ours.mean()):.1f}, chance 33.3; {parts}; words and numbers of the hypothesis "
        f"aligned with the table, no embeddings; all {len(train):,} training pairs; settings not tuned; tables "
        "resampled",
    ).write()
    bags = []
    for number in range(PATHS):
        rows = np.random.default_rng(number).integers(len(train), size=len(train))
        settings = head.Training(hypothesis_only=True, embeddings=False, seed=number, epochs=2)
        drawn = taken["train", True].rows(rows)
        bags.append(head.train(drawn, label["train"][rows], [group[at] for at in rows], settings)[0])
    rethinking(test, said, bags, models[0])
    return 0


if __name__ == "__main__":
    sys.exit(main())
