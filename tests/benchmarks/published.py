"""Training time beside the published recipe of equal parameters: `python -m tests.benchmarks.published`.

Ours packed, as `pretrain` trains it; the recipe padded to the longest of random batches of 32. Same patients, one
thread, whole steps: making the batch, loss, gradient, clipping, optimizer.
"""

import argparse
import sys
import time

import numpy as np
import torch

from ehr.baselines.neural.decoder import parameters
from ehr.baselines.neural.learner import Epochs, Schedule
from ehr.baselines.neural.published import Published
from ehr.baselines.neural.recipes import Sizes
from ehr.batches import plan
from tests.benchmarks.harness import Figure, in_turn, ratio_of
from tests.benchmarks.packing import LONGEST, ROWS, SEED, Samples, Trainer, lengths

COMMAND = "python -m tests.benchmarks.published"


def nearest(codes: int, wanted: int) -> Published:
    """Return the recipe with the paper's two parts whose number of parameters is nearest, by width."""
    sizes = Sizes(codes, 1, 1, LONGEST)
    tried = [Published(width=width, encoder_layers=3, decoder_layers=1) for width in range(32, 160, 4)]
    return min(tried, key=lambda recipe: abs(parameters(recipe.build(sizes)) - wanted))


def main() -> int:
    """Measure and write the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=512, help="in one run of an arm")
    parser.add_argument("--rounds", type=int, default=4)
    given = parser.parse_args()
    torch.set_num_threads(1)
    source = Samples()
    trainer = Trainer(source.vocabulary)
    held = lengths(given.samples, SEED)
    begins = np.random.default_rng(SEED).integers(0, 2**31, given.samples)
    samples = [source.cut(at, int(held[at]), int(begins[at])) for at in range(given.samples)]
    mine = sum(weight.numel() for weight in trainer.module.network.parameters() if weight.requires_grad)
    recipe = nearest(source.vocabulary.size, mine)
    network = recipe.build(Sizes(source.vocabulary.size, 1, 1, LONGEST)).train()
    rival = Epochs(network, Schedule(rows=ROWS, tokens=LONGEST, seed=SEED), samples, None, 1)

    def ours(number: int) -> float:
        layouts = list(plan(held, tokens=trainer.tokens, seed=SEED, epoch=number))
        return trainer.seconds(layouts, samples) / given.samples

    def theirs(number: int) -> float:
        started = time.perf_counter()
        rival.epoch = number
        order = np.random.default_rng([SEED, number]).permutation(given.samples)
        for begin in range(0, given.samples, ROWS):
            rival.step(order[begin : begin + ROWS])
        return (time.perf_counter() - started) / given.samples

    found = in_turn({"ours": ours, "published": theirs}, given.rounds)
    ratio = ratio_of(found["ours"], found["published"])
    Figure(
        name="train.published_bart_ratio", value=ratio.value, unit="ratio", command=" ".join([COMMAND, *sys.argv[1:]]),
        rival="the published recipe, reconstructed, batches of 32 padded to their longest",
        rival_value=float(np.mean(found["published"])), ratio=ratio.value, lower=ratio.lower, upper=ratio.upper,
        count=given.samples, seeds=(SEED,),
        note=f"seconds a patient {np.mean(found['ours']):.4g} and {np.mean(found['published']):.4g}; parameters "
        f"{mine:,} and {parameters(network):,} (width {recipe.width}); one thread",
    ).write()  # fmt: skip
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
