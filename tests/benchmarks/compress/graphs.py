"""Model files of random weights, for what does not hang on them: speed, and whether runtimes agree."""

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor

from compress.hyperspherical.ternary import best_ternary, values
from compress.onnx.export import export
from compress.onnx.rewriting import Plan, Rewritten, rewrite
from ehr.model import Anamnesis, AnamnesisConfig, OutcomeScorer
from tests.benchmarks.harness import ROOT

CODES, OUTCOMES, HORIZONS = 5_000, 10, 2
CACHE = ROOT / "runs" / "compress"
# Maps of ages have 17 inputs and stay as they are.
PLAN = Plan(least=32)
EXACT = Plan(least=32, activations="fp32", embeddings="fp32")


def dense(width: int) -> onnx.ModelProto:
    """Return a network of 2 + 2 layers and 5,000 codes as a graph in f32, exported once."""
    path = CACHE / f"graph-{width}.onnx"
    if not path.is_file():
        CACHE.mkdir(parents=True, exist_ok=True)
        made = exported(width)
        partial = path.with_suffix(".partial")
        partial.write_bytes(made.SerializeToString())
        partial.rename(path)
    return onnx.load(path)


def exported(width: int) -> onnx.ModelProto:
    """Build and export the network, seed 0."""
    torch.manual_seed(0)
    shape = {"width": width, "heads": width // 64, "encoder_layers": 2, "decoder_layers": 2, "dropout": 0.0}
    names = [f"o{at}" for at in range(OUTCOMES)]
    horizons = [[365, 1095]] * OUTCOMES
    config = AnamnesisConfig(vocabulary_size=CODES, network=shape, outcomes=names, horizons=horizons)
    network = Anamnesis(config).eval()
    with torch.no_grad():
        # Every code alone, without ancestors.
        network.get_buffer("bag").copy_(torch.arange(CODES))
        network.get_buffer("bag_offsets").copy_(torch.arange(CODES))
        for part in network.heads.parameters():
            part.normal_(std=0.05)
    plain = [np.ones(OUTCOMES, np.float32), np.zeros(OUTCOMES, np.float32)]
    scorer = OutcomeScorer(network, [*plain, *[np.zeros((OUTCOMES, 3), np.float32)] * 3])
    return export(scorer, *example())


def example() -> tuple[dict[str, Tensor], dict[str, tuple[str, ...]], tuple[str, ...]]:
    """Return what a network is exported with: example inputs, names of their axes, names of outputs."""
    inputs = {
        "token": torch.full((2, 3), 3, dtype=torch.int64),
        "visit": torch.ones((2, 3), dtype=torch.int32),
        "age_days": torch.ones((2, 3)),
        "query_age_days": torch.full((2,), 2.0),
    }
    axes = {name: ("batch", "seq")[: tensor.dim()] for name, tensor in inputs.items()}
    return inputs, axes, ("logit", "probability")


def ternary(width: int) -> onnx.ModelProto:
    """Return the same graph with every matrix of a block replaced by its best ternary one, still in f32."""
    model = dense(width)
    matrices = {node.input[1] for node in model.graph.node if node.op_type == "MatMul"}
    for item in model.graph.initializer:
        if item.name in matrices and len(item.dims) == 2 and min(item.dims) >= PLAN.least:
            rows = torch.from_numpy(numpy_helper.to_array(item).T.copy())
            made = values(best_ternary(rows)).numpy().T
            item.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(made), item.name))
    return model


def packed(width: int, plan: Plan = PLAN) -> Rewritten:
    """Return the ternary graph as a plan stores it."""
    return rewrite(ternary(width), plan)


def inputs(rows: int, length: int, seed: int = 1) -> dict[str, np.ndarray]:
    """Return records of random codes, a visit every four of them, without padding."""
    draw = np.random.default_rng(seed)
    visit = np.broadcast_to(np.arange(length, dtype=np.int32) // 4 + 1, (rows, length))
    age = np.sort(draw.uniform(10_000, 20_000, (rows, length)), axis=1).astype(np.float32)
    return {
        "token": draw.integers(3, CODES, (rows, length)),
        "visit": np.ascontiguousarray(visit),
        "age_days": age,
        "query_age_days": age[:, -1] + 1,
    }


def write(model: onnx.ModelProto, name: str) -> Path:
    """Write a model below runs/ and return its path."""
    path = CACHE / name
    path.write_bytes(model.SerializeToString())
    return path
