"""What a release is exported for: how its weights are stored, what that may cost, and the proof of it."""

import statistics
import tarfile
import time
from collections.abc import Mapping
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
from safetensors import SafetensorError
from safetensors.numpy import load_file
from torch import nn

from compress import sizes
from compress.gates import Budget
from compress.gates import held as judged
from compress.onnx.parity import enforce, parity
from compress.onnx.rewriting import Plan, Rewritten, hold, rewrite
from compress.onnx.session import Session, open_session
from compress.packing import zstd
from compress.report import to_json
from compress.sizes import Recovered
from ehr.calibration import Calibration
from ehr.model import Anamnesis
from pipelines import artefacts
from pipelines.cohort import Cohort
from pipelines.progress import say
from pipelines.sacrifice import Answered, sacrifice, summary
from pipelines.samples import Questions

REPORT, CLAIMED = "compression.json", "ternary.safetensors"
KEEP = ("*.project",)
"""Maps of ages stay in f32: few weights, and the numbers that go in have no bounds."""
EXACT = 1e-4
"""Largest difference of logits between the weights as stored and as trained, where both multiply in f32."""
GOLDEN = 0.05
"""Largest difference of logits of the golden pair between two runtimes or processors, where activations are rounded."""
BUDGET = Budget(auroc_drop=0.01)
SPLIT = "tuning"
SHAPES = ((1, 64), (8, 128))
"""Batch and length at which the speed is told."""
EMBEDDINGS = ("int8", "int4", "trits", "fp16", "fp32")


class Target(NamedTuple):
    """What a release is exported for.

    Attributes:
        name: as the command says it.
        plan: how weights are stored; None: as they are.
        tolerance: largest difference of logits from torch.
        device: where the file is meant to run.
    """

    name: str
    plan: Plan | None
    tolerance: float
    device: str = "cpu"


REFERENCE = Target("reference", None, 1e-4)
TARGETS = {
    "reference": REFERENCE,
    "cpu": Target("cpu", Plan(keep=KEEP), 0.25),
    "cpu-low-memory": Target("cpu-low-memory", Plan(linear="nbits2", keep=KEEP), 0.25),
    "gpu": Target("gpu", Plan(activations="fp16", embeddings="fp16", keep=KEEP), 0.1, "cuda"),
}


def choose(name: str, embeddings: str | None = None) -> Target:
    """Return a target by name, its tables stored another way where that is asked for.

    Raises:
        ValueError: there is no such target, or it leaves weights as they are.
    """
    if name not in TARGETS:
        raise ValueError(f"--target {name}: expected one of {', '.join(TARGETS)}")
    target = TARGETS[name]
    if embeddings is None:
        return target
    if target.plan is None:
        raise ValueError(f"--embeddings {embeddings}: the target {name} leaves weights as they are; choose another")
    changed: dict[str, Any] = {"embeddings": embeddings}
    return target._replace(plan=replace(target.plan, **changed))


def smaller(model: onnx.ModelProto, network: Anamnesis, run: Path, plan: Plan) -> Rewritten:
    """Return a model with its weights stored as a plan says, proved to hold what the network holds.

    Args:
        model: in f32, of the network.
        network: gives layers their names.
        run: where a file of claimed ternary layers may stand.
        plan: settings.

    Raises:
        ValueError: a layer does not hold what the run says of it, or the weights as stored give other answers.
    """
    named = {name: held.weight.detach() for name, held in network.named_modules() if isinstance(held, nn.Linear)}
    weights: dict[str, npt.NDArray[Any]] = {name: value.numpy() for name, value in named.items()}
    weights["embedding"] = network.table().detach().numpy()
    claimed = claims(run / CLAIMED)
    for name, value in embeddings(network).items():
        table = value.detach().numpy()
        if name in claimed and name in weights and not np.array_equal(table, weights[name]):
            # The file holds the table with ancestors added, of which nothing was said.
            hold(name, table, claimed.pop(name))
    exact = rewrite(
        model, replace(plan, activations="fp32", embeddings="fp32", linear="auto"), weights=weights, ternary=claimed
    )
    same(model, exact.model)
    return rewrite(model, plan, weights=weights)


def embeddings(network: Anamnesis) -> dict[str, Any]:
    """Return the tables of a network by the names of their modules."""
    return {name: held.weight for name, held in network.named_modules() if isinstance(held, nn.Embedding)}


def claims(path: Path) -> dict[str, Recovered]:
    """Read the layers that a run says are ternary: LAYER.codes int8 [R, C] and LAYER.scale f32 [R]; none without it.

    Raises:
        ValueError: the file is something else.
    """
    if not path.is_file():
        return {}
    try:
        held: Mapping[str, npt.NDArray[Any]] = load_file(path)
        names = {name.removesuffix(".codes") for name in held if name.endswith(".codes")}
        return {name: Recovered(held[f"{name}.codes"], held[f"{name}.scale"]) for name in sorted(names)}
    except (SafetensorError, KeyError):
        raise ValueError(f"{path}: not codes and scales of ternary layers; compress the run again") from None


def questions(number: int = 4, length: int = 33, tokens: int = 3) -> tuple[npt.NDArray[Any], ...]:
    """Return artificial input of a model: ids below `tokens`, a visit every four of them."""
    draw = np.random.Generator(np.random.Philox(key=5))
    visit = np.broadcast_to(np.arange(length, dtype=np.int32) // 4 + 1, (number, length))
    age = (15_000 + 30 * visit).astype(np.float32)
    token = draw.integers(2, tokens, (number, length)).astype(np.int64)
    return token, np.ascontiguousarray(visit), age, age[:, -1] + 1


def same(before: onnx.ModelProto, after: onnx.ModelProto) -> None:
    """Refuse weights whose stored form gives other logits than they do, activations left in f32."""
    asked = questions(tokens=ids(before))
    first, second = (opened(model.SerializeToString()).run(*asked)[0] for model in (before, after))
    enforce(parity(first, second), EXACT)


def ids(model: onnx.ModelProto) -> int:
    """Return how many token ids a model knows: the rows of the table that its tokens are looked up in."""
    name = next(node.input[0] for node in model.graph.node if node.op_type == "Gather" and "token" in node.input[1:])
    return next(int(item.dims[0]) for item in model.graph.initializer if item.name == name)


def opened(content: bytes) -> Session:
    """Open a model that stands in memory."""
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        path.write_bytes(content)
        return open_session(path)


def report(before: bytes, after: bytes, made: Rewritten) -> dict[str, Any]:
    """Return what was done to each layer, and bytes of the whole file before and after."""
    return to_json(made.report._replace(sizes=sizes.whole(before, after, made.weights)))


def quality(
    cohort: Cohort, asked: Questions, ages: npt.NDArray[np.float64], logit: npt.NDArray[np.float32],
    packed: npt.NDArray[np.float32], calibration: Calibration,
) -> dict[str, Any]:  # fmt: skip
    """Return what the smaller file costs on a cohort's tuning patients, with paired intervals.

    Args:
        cohort: with labels.
        asked: N questions.
        ages: in years, f64 [N].
        logit: of torch, f32 [N, K, H].
        packed: of the file.
        calibration: of both.

    Raises:
        ValueError: it costs more than the budget.
    """
    cost = sacrifice(
        cohort, asked, ages, Answered(logit, calibration), Answered(packed, calibration), bootstrap=1000, seed=0
    )
    estimable = judged(cost.before, cost.after, BUDGET.least_positives)
    if not estimable:
        say(f"note: no outcome has {BUDGET.least_positives} positives among {SPLIT} patients: quality is not held")
    told = summary(cost, BUDGET if estimable else None)
    if told["breaches"]:
        raise ValueError(f"{'; '.join(told['breaches'])}; nothing is released: choose another target")
    return told


def speed(before: bytes, after: Path, tokens: int, rounds: int = 5) -> str:
    """Return how many times faster than f32 a file is, on one thread, by batch and length; in turn, medians."""
    arms = (opened(before), open_session(after))
    told: list[str] = []
    for rows, length in SHAPES:
        asked = questions(rows, length, tokens)
        taken: tuple[list[float], list[float]] = ([], [])
        for _ in range(rounds + 1):
            for session, seconds in zip(arms, taken, strict=True):
                started = time.perf_counter()
                session.run(*asked)
                seconds.append(time.perf_counter() - started)
        first, second = (statistics.median(seconds[1:]) for seconds in taken)
        told.append(f"{first / second:.2f} at {rows} x {length}")
    return ", ".join(told)


def transport(release: Path) -> Path:
    """Write a release as one file beside it, RELEASE.tar.zst, and return its path; equal releases have equal bytes."""
    target = release.with_name(f"{release.name}.tar.zst")
    held, seen = BytesIO(), dict[str, str]()
    with tarfile.open(fileobj=held, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path in sorted(path for path in release.rglob("*") if path.is_file()):
            name = f"{release.name}/{path.relative_to(release).as_posix()}"
            entry = tarfile.TarInfo(name)
            entry.mode = 0o644
            # The copy for Triton is the same file: it stands in the archive once.
            first = seen.setdefault(artefacts.digest(path), name)
            if first != name:
                entry.type, entry.linkname = tarfile.LNKTYPE, first
                archive.addfile(entry)
                continue
            entry.size = path.stat().st_size
            with path.open("rb") as file:
                archive.addfile(entry, file)
    artefacts.write_bytes(target, zstd(held.getvalue()))
    return target
