"""Bytes of a wide ternary network beside what it costs: `python -m tests.benchmarks.compress.sizes`.

A network of width 768, 2 + 2 layers and more than 5,000 codes is fine-tuned from scratch on a synthetic cohort, then
goes on with ternary weights, those of the embedding among them, 80 % of them 0. Everything stands under
runs/compress/wide and is made once.
"""

import argparse
import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import safetensors.numpy
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from compress.layers import as_matrix, find
from compress.report import CompressionReport, Layer
from compress.sizes import measure, ternary_entropy
from ehr.batches import plan
from ehr.losses import masked_bce
from ehr.metrics.scores import MACRO
from ehr.outcomes.registry import Registry, dump, load
from ehr.vocabulary import Settings
from pipelines import artefacts
from pipelines.cohort import Cohort, open_cohort
from pipelines.compress import write_run
from pipelines.data import Answered, OutcomeSource, tensors
from pipelines.export import read_run
from pipelines.passes import Plan
from pipelines.preparation import prepare
from pipelines.samples import questions_of
from pipelines.targets import CLAIMED
from tests.benchmarks.compress.models import CONFIGS, RUNS, SHARED
from tests.benchmarks.compress.quality import Compared, answered, made
from tests.benchmarks.harness import Figure, verb

COMMAND = "python -m tests.benchmarks.compress.sizes"
WIDE = RUNS / "wide"
WIDTH, LEAST_CODES, LEAST_TOKENS = 768, 5_000, 200_000
BINS = 50
"""Of values: with ten, the cohort has half as many codes as the network should know."""
OUTCOMES, MAX_LENGTH, TOKENS, SEED = 20, 40, 512, 0
ZEROS, NATURAL, RAMP = 0.8, 0.4, 0.5
"""Share of zeros at the end, at the start, and the part of the ternary steps in which it climbs."""
TERNARY_SHARE, LEARNING_RATE, EVERY = 0.5, 3e-4, 10
"""Ternary training: share of an epoch, highest rate, and steps between thresholds."""
CONFIG = f"""seed_everything: 7
model:
  network: {{width: {WIDTH}, heads: 12, encoder_layers: 2, decoder_layers: 2, dropout: 0.0}}
  optimizer: {{learning_rate: {LEARNING_RATE}}}
data: {{tokens: {TOKENS}, max_length: {MAX_LENGTH}}}
trainer: {{max_epochs: 1}}
"""


class Straight(nn.Module):
    """A ternary matrix in place of a dense one, whose gradient goes straight to it (Li et al. 2016, Bengio 2013)."""

    def __init__(self, weight: Tensor) -> None:
        """Set up for a matrix [R, C]."""
        super().__init__()
        self.register_buffer("threshold", weight.new_zeros(len(weight), 1))

    @torch.no_grad()
    def choose(self, weight: Tensor, zeros: float) -> None:
        """Take the threshold under which a share of each row lies."""
        rank = max(1, round(zeros * weight.shape[1]))
        self.get_buffer("threshold").copy_(weight.abs().kthvalue(rank, dim=1, keepdim=True).values)

    def forward(self, weight: Tensor) -> Tensor:
        """Return the ternary rows."""
        with torch.no_grad():
            size = weight.abs()
            kept = size > self.get_buffer("threshold")
            scale = (size * kept).sum(1, keepdim=True) / kept.sum(1, keepdim=True).clamp(min=1)
            change = weight.sign() * kept * scale - weight
        return weight + change


class Coded(NamedTuple):
    """Codes int8 [R, C] of -1, 0 and 1, and scale f32 [R]."""

    codes: Tensor
    scale: Tensor


def coded(weight: Tensor, zeros: float) -> Coded:
    """Return the ternary rows of a matrix [R, C] with an exact share of zeros in each row."""
    kept = weight.shape[1] - round(zeros * weight.shape[1])
    top = weight.abs().topk(kept, dim=1)
    signs = weight.gather(1, top.indices).sign().to(torch.int8)
    codes = torch.zeros_like(weight, dtype=torch.int8).scatter_(1, top.indices, signs)
    return Coded(codes, top.values.mean(1))


def cohort() -> Path:
    """Prepare the cohort where it does not stand there."""
    folder, outcomes = WIDE / "cohort", WIDE / "outcomes.yaml"
    if not (folder / artefacts.MANIFEST).is_file():
        WIDE.mkdir(parents=True, exist_ok=True)
        known = load(CONFIGS / "outcomes" / "synthea_large.yaml").outcomes[:OUTCOMES]
        outcomes.write_text(dump(Registry(tuple(known))), encoding="utf-8")
        settings = Plan(tokens=Settings(bins=BINS), gates=False)
        prepare(SHARED / "synthea_large", folder, format="meds", outcomes=outcomes, plan=settings, workers=1)
    return folder


def dense(folder: Path) -> Path:
    """Train the network in f32 where it does not stand there."""
    run, config = WIDE / "dense", WIDE / "finetune.yaml"
    config.write_text(CONFIG, encoding="utf-8")
    words = ("--config", config, "--cohort", folder, "--output", run, "--no-estimate")
    return made(verb("finetune", *words), run)


def batches(held: Cohort, share: float) -> Iterator[Answered]:
    """Yield training batches of a part of an epoch that dense training has not seen in this order."""
    source = OutcomeSource(held, questions_of(held, "train"), max_length=MAX_LENGTH, share=False)
    layouts = list(plan(source.lengths, tokens=TOKENS, buffer=len(source.lengths), seed=SEED, epoch=1))
    for layout in layouts[: round(share * len(layouts))]:
        yield tensors(source.make(layout, 1))


def ternary(run: Path, folder: Path) -> Path:
    """Train on with ternary weights where that was not done, and write a run."""
    target = WIDE / "ternary"
    if (target / artefacts.MANIFEST).is_file():
        return target
    read, held = read_run(run), open_cohort(folder)
    network = read.network.train()
    chosen = {**find(network), "embedding": network.embedding}
    for module in chosen.values():
        parametrize.register_parametrization(module, "weight", Straight(as_matrix(module)))
    content = list(batches(held, TERNARY_SHARE))
    learn(network, list(chosen.values()), content)
    claimed: dict[str, np.ndarray] = {}
    layers: list[Layer] = []
    for name, module in chosen.items():
        parametrize.remove_parametrizations(module, "weight", leave_parametrized=False)
        matrix = as_matrix(module)
        codes, scale = coded(matrix, ZEROS)
        matrix.copy_(codes * scale[:, None])
        claimed |= {f"{name}.codes": codes.numpy(), f"{name}.scale": scale.numpy()}
        kind = "embedding" if name == "embedding" else "linear"
        layers.append(Layer(name, kind, *matrix.shape, int((codes == 0).sum()), bits=2, error=math.nan))
    network.eval()
    told = CompressionReport("ternary", {"zeros": ZEROS, "steps": len(content)}, tuple(layers))
    with artefacts.build(target, overwrite=False) as made_in:
        fields = write_run(made_in, run, read, held, told)
        safetensors.numpy.save_file(claimed, made_in / CLAIMED)
        artefacts.write_manifest(made_in, "run", **fields)
    return target


def learn(network: nn.Module, modules: list[nn.Module], content: list[Answered]) -> None:
    """Train with zeros that become more, at a rate that falls."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=0.0, betas=(0.9, 0.98))
    for step, batch in enumerate(content):
        if step % EVERY == 0:
            part = min(1.0, step / (RAMP * len(content)))
            for module in modules:
                raw = module.parametrizations.weight  # pyright: ignore[reportAttributeAccessIssue]
                raw[0].choose(raw.original, NATURAL + (ZEROS - NATURAL) * part)
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * (1 + math.cos(math.pi * step / len(content))) / 2
        total, count = masked_bce(network.outcomes_at(batch.batch, batch.moments), batch.label)  # pyright: ignore[reportCallIssue]
        loss = total / count.clamp(min=1)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        if step % EVERY == 0:
            print(f"ternary, step {step} of {len(content)}: loss {loss.item():.4f}", flush=True)


def seen(held: Cohort) -> tuple[int, int]:
    """Return tokens of the dense epoch and of the ternary part behind it."""
    whole, part = (
        sum(int((batch.batch.segment > 0).sum()) for batch in batches(held, share)) for share in (1.0, TERNARY_SHARE)
    )
    return whole, part


def cost(found: Compared) -> str:
    """Return what a file costs, in words."""
    told: list[str] = []
    for metric in ("auroc", "auprc"):
        macro = found.scores.filter(outcome=MACRO)
        arms = {arm: macro.filter(model=arm, metric=metric)["value"].item() for arm in ("compressed", "dense")}
        change = macro.filter(metric=f"{metric}_over_dense").row(0, named=True)
        told.append(
            f"macro-{metric.upper()} {arms['compressed']:.4f} against {arms['dense']:.4f} "
            f"({change['value']:+.4f}, {change['lower']:+.4f} to {change['upper']:+.4f})"
        )
    return f"{', '.join(told)} on {found.patients:,} held-out patients"


def main() -> int:
    """Train, export, measure and write the figures."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    folder = cohort()
    held = open_cohort(folder)
    first = dense(folder)
    second = ternary(first, folder)
    releases = {
        "dense": made(verb("export", first, WIDE / "release"), WIDE / "release"),
        "cpu": made(verb("export", second, WIDE / "cpu", "--target", "cpu"), WIDE / "cpu"),
        "packed": made(
            verb("export", second, WIDE / "packed", "--target", "cpu", "--embeddings", "trits", "--transport"),
            WIDE / "packed",
        ),
    }
    bytes_of = {name: measure(path / "model.onnx") for name, path in releases.items()}
    tokens = seen(held)
    if held.vocabulary.size < LEAST_CODES or tokens[0] < LEAST_TOKENS:
        raise RuntimeError(f"{held.vocabulary.size:,} codes and {tokens[0]:,} tokens; too few for these figures")
    for name, arm, part in (
        ("file_ratio.768", "cpu", "raw"),
        ("file_ratio.768.embeddings", "packed", "raw"),
        ("transport_ratio.768", "packed", "zstd"),
    ):
        size = getattr(bytes_of[arm], part)
        found = answered({"compressed": releases[arm], "dense": releases["dense"]}, folder)
        Figure(
            name=f"compress.size.{name}", value=bytes_of["dense"].raw / size, unit="ratio", command=COMMAND,
            rival="the same network trained in f32, its .onnx as exported", rival_value=1.0, seeds=(SEED,),
            count=size,
            note=f"{bytes_of['dense'].raw:,} bytes to {size:,} ({part}; the fp32 file in zstd "
            f"{bytes_of['dense'].zstd:,}); {held.vocabulary.size:,} codes, {ZEROS:.0%} zeros in all matrices of blocks "
            f"and in the table of codes (bound of entropy {ternary_entropy(ZEROS):.3f} bits a weight); this file's "
            f"quality: {cost(found)}; dense on {tokens[0]:,} tokens, ternary by straight-through on {tokens[1]:,} more",
        ).write()  # fmt: skip
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
