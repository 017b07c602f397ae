"""Bytes of a wide ternary network beside what it costs: `python -m tests.benchmarks.compress.sizes`.

A network of width 768, 2 + 2 layers and more than 5,000 codes is fine-tuned from scratch on a synthetic cohort, then
goes on with ternary weights, those of the embedding among them, 80 % of them 0. Everything stands under
runs/compress/wide and is made once.
"""

import argparse
import copy
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from compress.layers import as_matrix, find, set_matrix
from compress.onnx.export import export
from compress.onnx.rewriting import Plan, rewrite
from compress.onnx.session import open_session
from compress.sizes import measure, recovered, ternary_entropy
from ehr.batches import pad, plan
from ehr.losses import masked_bce
from ehr.metrics.scores import MACRO
from ehr.model import Anamnesis, Network, OutcomeScorer
from ehr.outcomes.registry import Registry
from ehr.timelines import Sample
from ehr.vocabulary import Settings
from pipelines import artefacts, passes
from pipelines.cohort import Cohort, open_cohort, timelines
from pipelines.data import Answered, OutcomeSource, tensors
from pipelines.modules import Finetuning, new_network
from pipelines.preparation import prepare
from pipelines.samples import Questions, questions_of, samples_of
from pipelines.targets import KEEP
from tests.benchmarks.compress.graphs import example, write
from tests.benchmarks.compress.models import CONFIGS, RUNS, SHARED
from tests.benchmarks.compress.quality import SPLIT, Compared, scored
from tests.benchmarks.harness import Figure

COMMAND = "python -m tests.benchmarks.compress.sizes"
WIDE = RUNS / "wide"
SHAPE: dict[str, Any] = {"width": 768, "heads": 12, "encoder_layers": 2, "decoder_layers": 2, "dropout": 0.0}
LEAST_CODES, LEAST_TOKENS = 5_000, 200_000
BINS = 50
"""Of values: with ten, the cohort has half as many codes as the network should know."""
OUTCOMES, MAX_LENGTH, TOKENS, SEED = 8, 40, 768, 0
ZEROS, NATURAL, RAMP = 0.8, 0.4, 0.5
"""Share of zeros at the end, at the start, and the part of the ternary steps in which it climbs."""
DENSE_SHARE, LEARNING_RATE, WARMUP, EVERY = 0.7, 3e-4, 10, 10
"""Share of the epoch before weights become ternary; highest rate, its steps to get there, steps between thresholds."""
ROWS, PATIENTS, SAME = 64, 1_000, 1e-3
"""Samples asked at once, held-out patients, and how far apart two files with the same values may answer."""


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


def cohort() -> Cohort:
    """Open the cohort, prepared where it does not stand there, with the first of its outcomes."""
    folder = WIDE / "cohort"
    if not (folder / artefacts.MANIFEST).is_file():
        outcomes = CONFIGS / "outcomes" / "synthea_large.yaml"
        settings = passes.Plan(tokens=Settings(bins=BINS), gates=False)
        prepare(SHARED / "synthea_large", folder, format="meds", outcomes=outcomes, plan=settings)
    held = open_cohort(folder)
    return held._replace(registry=Registry(held.registry.outcomes[:OUTCOMES]))


def asked_of(held: Cohort, split: str) -> Questions:
    """Return the questions of a split with the labels of the outcomes that are learnt."""
    asked = questions_of(open_cohort(held.path), split)
    return asked._replace(label=asked.label[:, :OUTCOMES])


def network(held: Cohort, asked: Questions) -> Anamnesis:
    """Return the network with new weights and heads that start from the outcomes' prevalence."""
    torch.manual_seed(SEED)
    module = Finetuning(network=Network(**SHAPE))
    module.build(new_network(Network(**SHAPE), held.vocabulary, MAX_LENGTH), held.vocabulary, held.registry, asked)
    return module.network


def batches(held: Cohort, asked: Questions) -> list[Answered]:
    """Return the batches of one epoch."""
    source = OutcomeSource(held, asked, max_length=MAX_LENGTH, share=False)
    layouts = plan(source.lengths, tokens=TOKENS, buffer=len(source.lengths), seed=SEED, epoch=0)
    return [tensors(source.make(layout, 0)) for layout in layouts]


def tokens(content: Sequence[Answered]) -> int:
    """Return how many tokens batches hold, padding left out."""
    return sum(int((batch.batch.segment > 0).sum()) for batch in content)


def learn(model: Anamnesis, content: Sequence[Answered], ternary: Sequence[nn.Module] = ()) -> None:
    """Train on batches at a rate that falls; the zeros of ternary modules become more."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.0, betas=(0.9, 0.98))
    model.train()
    for step, batch in enumerate(content):
        if step % EVERY == 0:
            part = min(1.0, step / (RAMP * len(content)))
            for module in ternary:
                raw: Any = module.parametrizations.weight
                raw[0].choose(raw.original, NATURAL + (ZEROS - NATURAL) * part)
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * min((step + 1) / WARMUP, (1 + math.cos(math.pi * step / len(content))) / 2)
        total, count = masked_bce(model.outcomes_at(batch.batch, batch.moments), batch.label)
        loss = total / count.clamp(min=1)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % EVERY == 0:
            print(f"step {step} of {len(content)}: loss {loss.item():.4f}", flush=True)
    model.eval()


def harden(model: Anamnesis, content: Sequence[Answered]) -> None:
    """Train on with ternary matrices and leave them in place of the dense ones."""
    chosen = matrices(model)
    for module in chosen.values():
        parametrize.register_parametrization(module, "weight", Straight(as_matrix(module)))
    learn(model, content, list(chosen.values()))
    for module in chosen.values():
        parametrize.remove_parametrizations(module, "weight", leave_parametrized=False)
        codes, scale = coded(as_matrix(module), ZEROS)
        set_matrix(module, codes * scale[:, None])


def matrices(model: Anamnesis) -> dict[str, nn.Module]:
    """Return the modules that become ternary."""
    return {**find(model), "embedding": model.embedding}


def trained(held: Cohort, asked: Questions) -> dict[str, Anamnesis]:
    """Return the network after its dense and after its ternary part, from the files of an earlier run if there are."""
    content = batches(held, asked)
    at = round(DENSE_SHARE * len(content))
    model = network(held, asked)
    found: dict[str, Anamnesis] = {}
    for name, part in (("dense", content[:at]), ("ternary", content[at:])):
        path = WIDE / f"{name}.safetensors"
        if not path.is_file():
            (learn if name == "dense" else harden)(model, part)
            artefacts.write_bytes(path, safetensors.torch.save(model.state_dict()))
        model.load_state_dict(safetensors.torch.load(path.read_bytes()))
        found[name] = copy.deepcopy(model).eval()
    return found


def graphs(found: dict[str, Anamnesis]) -> dict[str, onnx.ModelProto]:
    """Return the file in f32, and the ternary one with rows of the table in 8 bits and as trits."""
    dense, ternary = (exported(model) for model in (found["dense"], found["ternary"]))
    weights = {name: as_matrix(module).numpy() for name, module in matrices(found["ternary"]).items()}
    said = {name: recovered(weight) for name, weight in weights.items()}
    claimed = {name: held for name, held in said.items() if held is not None}
    assert claimed.keys() == weights.keys()
    rows: tuple[Literal["int8", "trits"], ...] = ("int8", "trits")
    made = {form: rewrite(ternary, Plan(keep=KEEP, embeddings=form), weights=weights, ternary=claimed) for form in rows}
    return {"dense": dense, "rows": made["int8"].model, "packed": made["trits"].model}


def exported(model: Anamnesis) -> onnx.ModelProto:
    """Export a network without calibration: its order of patients is what is measured."""
    outcomes = len(model.config.outcomes)
    plain = [np.ones(outcomes, np.float32), np.zeros(outcomes, np.float32)]
    return export(OutcomeScorer(model, [*plain, *[np.zeros((outcomes, 3), np.float32)] * 3]), *example())


def answers(path: Path, samples: Sequence[Sample]) -> npt.NDArray[np.float64]:
    """Return a file's probabilities of samples, f64 [N, K, H]."""
    session = open_session(path, threads=1)
    found = [
        session.run(*pad(samples[at : at + ROWS], length=MAX_LENGTH, rows=len(samples[at : at + ROWS])))[1]
        for at in range(0, len(samples), ROWS)
    ]
    return np.concatenate(found).astype(np.float64)


def compared(held: Cohort, paths: dict[str, Path]) -> Compared:
    """Ask both files of the same held-out patients."""
    asked = Questions(*(part[:PATIENTS] for part in asked_of(held, SPLIT)))
    samples = samples_of(timelines(held), asked, MAX_LENGTH)
    given = {
        arm: answers(paths[file], samples[:PATIENTS]) for arm, file in (("compressed", "packed"), ("dense", "dense"))
    }
    few = [answers(paths[file], samples[:ROWS]) for file in ("rows", "packed")]
    apart = float(np.abs(few[0] - few[1]).max())
    if apart > SAME:
        raise RuntimeError(
            f"files with rows of 8 bits and of trits differ by {apart:.2g}; their quality has to be told apart"
        )
    return Compared(
        scored(held, asked, given), len(asked.subject), f"rows of 8 bits answer within {apart:.1g} of trits"
    )


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
    return f"{', '.join(told)} on {found.patients:,} held-out patients; {found.told}"


def main() -> int:
    """Train, export, measure and write the figures."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    torch.set_num_threads(1)
    held = cohort()
    asked = asked_of(held, "train")
    content = batches(held, asked)
    whole, first = tokens(content), tokens(content[: round(DENSE_SHARE * len(content))])
    if held.vocabulary.size < LEAST_CODES or whole < LEAST_TOKENS:
        raise RuntimeError(f"{held.vocabulary.size:,} codes and {whole:,} tokens; too few for these figures")
    made = graphs(trained(held, asked))
    paths = {name: write(model, f"wide/{name}.onnx") for name, model in made.items()}
    size = {name: measure(path) for name, path in paths.items()}
    told = (
        f"{held.vocabulary.size:,} codes, {ZEROS:.0%} zeros in all matrices of blocks and in the table of codes (bound "
        f"of entropy {ternary_entropy(ZEROS):.3f} bits a weight); quality of this file: {cost(compared(held, paths))}; "
        f"trained on {whole:,} tokens, the last {whole - first:,} of them with ternary weights by straight-through; "
        "dense is the network before these"
    )
    for name, file, part in (
        ("file_ratio.768", "rows", "raw"),
        ("file_ratio.768.embeddings", "packed", "raw"),
        ("transport_ratio.768", "packed", "zstd"),
    ):
        count = getattr(size[file], part)
        zipped = "" if part == "raw" else " in zstd"
        Figure(
            name=f"compress.size.{name}", value=size["dense"].raw / count, unit="ratio", command=COMMAND,
            rival="the network in f32, its .onnx as exported", rival_value=1.0, seeds=(SEED,), count=count,
            note=f"{size['dense'].raw:,} bytes ({size['dense'].zstd:,} in zstd) to {count:,}{zipped}; {told}",
        ).write()  # fmt: skip
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
