"""Packed rows against batches padded to their longest sample: `python -m tests.benchmarks.packing`."""

import argparse
import time
from collections.abc import Iterator, Sequence

import numpy as np
import polars as pl
import torch

from ehr import corruption
from ehr.batches import Layout, plan
from ehr.simulator import cohort
from ehr.timelines import Sample, build
from ehr.vocabulary import Vocabulary, count, merge
from pipelines.data import PretrainingData, Step, tensors
from pipelines.modules import Pretraining
from pipelines.training import quiet, settings
from tests.benchmarks.harness import ROOT, Figure, in_turn, ratio_of

COMMAND = "python -m tests.benchmarks.packing"
CONFIG = ROOT / "configs" / "demo" / "pretrain.yaml"
MEDIAN, SIGMA, LONGEST, ROWS = 64, 1.0, 512, 32
SEED = 7


def lengths(number: int, seed: int) -> np.ndarray:
    """Return the lengths of samples: log-normal, median 64, sigma 1, cut at 512."""
    draw = np.random.default_rng(seed)
    return np.clip(np.rint(np.exp(draw.normal(np.log(MEDIAN), SIGMA, number))), 4, LONGEST).astype(np.int64)


class Samples:
    """Samples of given lengths cut from the visits of simulated patients, one after the other."""

    def __init__(self, patients: int = 2_000) -> None:
        """Simulate, fit a vocabulary and tokenise."""
        events, _ = cohort.cohort(patients, seed=SEED, with_truth=False)
        self.vocabulary = Vocabulary.fit(merge([count(events)]))
        table = pl.from_arrow(build(events, self.vocabulary))
        flat = table.select("subject_id", "token", "visit").explode("token", "visit", empty_as_null=False)
        flat = flat.filter(pl.col("visit") > 0)
        changes = flat["subject_id"].diff().fill_null(1).ne(0) | flat["visit"].diff().fill_null(1).ne(0)
        self.token = flat["token"].to_numpy()
        self.visit = changes.cum_sum().to_numpy().astype(np.int32)

    def cut(self, number: int, length: int, begin: int) -> Sample:
        """Return one sample: the tokens from `begin` on, a visit every 40 days from the age of 40 on."""
        begin %= len(self.token) - length
        visit = self.visit[begin : begin + length] - self.visit[begin] + 1
        age = (40 * 365.25 + 40.0 * visit).astype(np.float32)
        return Sample(number, 0, self.token[begin : begin + length], visit, age, float(age[-1]) + 1)


def padded(order: np.ndarray, held: np.ndarray, rows: int) -> Iterator[Layout]:
    """Yield batches of so many samples, one a row, as wide as the longest."""
    for begin in range(0, len(order), rows):
        part = order[begin : begin + rows]
        yield Layout(int(held[part].max()), tuple((int(at),) for at in part))


def bucketed(held: np.ndarray, tokens: int, draw: np.random.Generator) -> list[Layout]:
    """Return length-bucketed batches: samples in order of length, cut at the same budget of positions as ours.

    This is the strongest form of bucketing: buckets as fine as batches, and all samples of an epoch to choose from.
    """
    order = np.argsort(held, kind="stable")
    found: list[Layout] = []
    begin = 0
    while begin < len(order):
        end = begin + 1
        while end < len(order) and (end + 1 - begin) * held[order[end]] <= tokens:
            end += 1
        found.append(Layout(int(held[order[end - 1]]), tuple((int(at),) for at in order[begin:end])))
        begin = end
    return [found[at] for at in draw.permutation(len(found))]


class Trainer:
    """Trains the network of the demo's configuration batch by batch."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        """Build the module as `pretrain` does."""
        made = settings(Pretraining, PretrainingData, CONFIG, [])
        self.module, self.tokens = made.module, made.data.tokens
        torch.manual_seed(SEED)
        with quiet():
            self.module.build(vocabulary, LONGEST)
            self.optimizer = self.module.configure_optimizers()["optimizer"]
        self.module.train()
        self.known = corruption.facts(vocabulary)
        self.one_way = self.module.network.one_way

    def seconds(self, layouts: Sequence[Layout], samples: Sequence[Sample], *, pack: bool = True) -> float:
        """Return the seconds of making and learning some batches; without `pack` rows stay as they are laid out."""
        how = {"seed": SEED, "epoch": 0, "one_way": self.one_way}
        started = time.perf_counter()
        for number, layout in enumerate(layouts):
            rows = [
                [corruption.corrupt(samples[at], self.module.corruption, self.known, **how) for at in row]
                for row in layout.rows
            ]
            longest = max(sum(len(sample.token) for sample, _ in row) for row in rows)
            held = corruption.tightened(rows) if pack else (rows, longest)
            step = Step(0, number, tensors(corruption.denoising(*held)))
            loss = self.module.loss_of(step)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.module.parameters(), 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
        return time.perf_counter() - started


def padding(layouts: Sequence[Layout], held: np.ndarray) -> float:
    """Return the share of positions that hold nothing."""
    real = sum(int(held[at]) for layout in layouts for at in layout.order)
    return 1 - real / sum(layout.width * len(layout.rows) for layout in layouts)


def main() -> int:
    """Measure and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=2_048, help="in an epoch, which is one run of an arm")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    source = Samples()
    trainer = Trainer(source.vocabulary)
    held = lengths(given.samples, SEED)
    begins = np.random.default_rng(SEED).integers(0, 2**31, given.samples)
    samples = [source.cut(at, int(held[at]), int(begins[at])) for at in range(given.samples)]

    def layouts(arm: str, number: int) -> list[Layout]:
        draw = np.random.default_rng([SEED, number])
        if arm == "packed":
            return list(plan(held, tokens=trainer.tokens, seed=SEED, epoch=number))
        if arm == "bucketed":
            return bucketed(held, trainer.tokens, draw)
        return list(padded(draw.permutation(given.samples), held, ROWS))

    def speed(arm: str) -> object:
        pack = arm == "packed"
        return lambda number: int(held.sum()) / trainer.seconds(layouts(arm, number), samples, pack=pack)

    arms = ("packed", "bucketed", "padded")
    trainer.seconds(layouts("packed", 99)[:4], samples)
    empty = {arm: padding(layouts(arm, 0), held) for arm in arms}
    found = in_turn({arm: speed(arm) for arm in arms}, given.rounds)
    note = "; ".join(f"{arm}: {np.mean(found[arm]):,.0f} tokens/s, {empty[arm]:.1%} padding" for arm in arms)
    for name, rival, told in (
        ("train.packed_ratio", "padded", f"random batches of {ROWS} padded to the longest"),
        ("train.packed_over_buckets_ratio", "bucketed", f"batches of near length, {trainer.tokens} positions"),
    ):
        ratio = ratio_of(found["packed"], found[rival])
        Figure(
            name=name, value=ratio.value, unit="ratio", command=COMMAND, rival=told,
            rival_value=float(np.mean(found[rival])), ratio=ratio.value, lower=ratio.lower, upper=ratio.upper,
            count=given.samples, seeds=(SEED,), note=note,
        ).write()  # fmt: skip
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
