"""Speed of drawing futures, beside transformers' generate of a GPT-2 of equal size, and beside recomputing the prefix.

    python -m tests.benchmarks.rethink.generate

Weights are random: speed does not hang on them. Each arm draws the same number of futures of the same number of tokens
from the same number of prompts of 256 tokens, one thread.
"""

import argparse
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from ehr.batches import Batch, collate
from ehr.continuation import AnamnesisForCausalLM
from ehr.generation import prompts_of, sample
from ehr.grammar import CODE, IMPOSSIBLE, TIME_BINS, Grammar
from ehr.network import AnamnesisConfig
from ehr.timelines import Sample
from ehr.vocabulary import MASK
from tests.benchmarks.harness import Figure, in_turn, ratio_of

COMMAND = "python -m tests.benchmarks.rethink.generate"
SEED, CODES, PROMPT, TOKENS = 0, 2_000, 256, 32
SHAPE = {"width": 128, "heads": 4, "encoder_layers": 4, "decoder_layers": 2, "dropout": 0.0}


def ours() -> AnamnesisForCausalLM:
    """Return a network whose futures never end before their limit of tokens."""
    torch.manual_seed(SEED)
    config = AnamnesisConfig(vocabulary_size=CODES, network=SHAPE, time_bins=TIME_BINS)
    network = AnamnesisForCausalLM(config).eval()
    kind = np.where(np.arange(CODES) > MASK, CODE, IMPOSSIBLE)
    network.obey(Grammar(kind, np.full(CODES, -1)))
    with torch.no_grad():
        # A bag of each token alone, and a gap after every tenth code or so.
        network.get_buffer("bag").copy_(torch.arange(CODES))
        network.get_buffer("bag_offsets").copy_(torch.arange(CODES))
        network.clock.bias.fill_(float(np.log(CODES / 10 / TIME_BINS)))
    return network


def rival(parameters: int) -> GPT2LMHeadModel:
    """Return a GPT-2 of the same width, and of the depth whose number of parameters is nearest."""

    def made(layers: int) -> GPT2LMHeadModel:
        config = GPT2Config(
            vocab_size=CODES + TIME_BINS, n_positions=512, n_embd=SHAPE["width"], n_layer=layers, n_head=SHAPE["heads"],
            bos_token_id=1, eos_token_id=None, pad_token_id=0,
        )  # fmt: skip
        return GPT2LMHeadModel(config).eval()

    return min((made(layers) for layers in range(3, 10)), key=lambda model: abs(model.num_parameters() - parameters))


def prompts(patients: int) -> Batch[torch.Tensor]:
    """Return records of 256 tokens each, in visits of eight."""
    draw = np.random.default_rng(SEED)
    rows: list[list[Sample]] = []
    for subject in range(patients):
        visit = np.arange(PROMPT, dtype=np.int32) // 8 + 1
        age = (10_000 + 30 * visit).astype(np.float32)
        token = draw.integers(MASK + 1, CODES, PROMPT).astype(np.int32)
        rows.append([Sample(subject, 0, token, visit, age, float(age[-1]))])
    return Batch(*(torch.from_numpy(part) for part in collate(rows, PROMPT)))


def timed(work: Callable[[], int], futures: int) -> float:
    """Return futures a second, after checking that each has its tokens."""
    started = time.perf_counter()
    drawn = work()
    seconds = time.perf_counter() - started
    if drawn != futures:
        raise RuntimeError(f"{drawn} whole futures; expected {futures}")
    return futures / seconds


def main() -> int:
    """Measure and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=4)
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    network = ours()
    gpt2 = rival(network.num_parameters())

    def shared(patients: int, samples: int, tokens: int) -> int:
        found = sample(network, prompts(patients), horizon_days=1e9, samples=samples, seed=SEED, max_tokens=tokens)
        return int((np.bincount(found.future, minlength=patients * samples) == tokens).sum())

    def generated(patients: int, samples: int, tokens: int) -> int:
        ids = prompts(patients).token
        how = {"do_sample": True, "top_k": 0, "num_return_sequences": samples, "min_new_tokens": tokens}
        with torch.inference_mode():
            rows = gpt2.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, use_cache=True, **how)  # pyright: ignore[reportCallIssue]
        return len(rows) if rows.shape[1] == PROMPT + tokens else 0

    def recomputed(patients: int, samples: int, tokens: int) -> int:
        held = prompts_of(prompts(patients))
        ids, visit, age = (
            torch.from_numpy(np.stack([getattr(prompt, name) for prompt in held]))
            for name in ("token", "visit", "age_days")
        )
        rows = network.generate(
            ids, visit=visit, age_days=age, do_sample=True, top_k=0, num_return_sequences=samples,
            max_new_tokens=tokens, use_cache=False,
        )  # fmt: skip
        return len(rows) if rows.shape[1] == PROMPT + tokens else 0

    large, small = (given.patients, given.samples, TOKENS), (1, given.samples, TOKENS)
    for work in (shared, generated):
        work(1, 2, 4)
    found = in_turn(
        {
            "shared": lambda _: timed(lambda: shared(*large), large[0] * large[1]),
            "generated": lambda _: timed(lambda: generated(*large), large[0] * large[1]),
            "shared_small": lambda _: timed(lambda: shared(*small), small[0] * small[1]),
            "recomputed": lambda _: timed(lambda: recomputed(*small), small[0] * small[1]),
        },
        given.rounds,
    )
    sizes = f"{network.num_parameters():,} parameters, GPT-2 {gpt2.num_parameters():,}"
    for name, mine, theirs, told, (patients, samples, tokens) in (
        ("cache_ratio", "shared", "generated", "generate(use_cache=True) of a GPT-2 of equal size", large),
        (
            "recompute_ratio",
            "shared_small",
            "recomputed",
            "the same network, the whole prefix at each step",
            small,
        ),
    ):
        ratio = ratio_of(found[mine], found[theirs])
        Figure(
            name=f"rethink.generate.{name}", value=ratio.value, unit="ratio",
            command=" ".join([COMMAND, *sys.argv[1:]]),
            rival=told,
            rival_value=float(np.mean(found[theirs])), ratio=ratio.value, lower=ratio.lower, upper=ratio.upper,
            count=patients * samples, seeds=(SEED,),
            note=f"futures/s {np.mean(found[mine]):.3g} over {np.mean(found[theirs]):.3g}; {patients} prompts of "
            f"{PROMPT} tokens, {samples} futures each of {tokens}; {sizes}; one thread",
        ).write()  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
