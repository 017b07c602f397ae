"""A folder that Triton, and KServe through it, loads as it is: config.pbtxt and the model file.

Fields are those of `inference.ModelConfig` (triton-inference-server/common, model_config.proto).
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

NAME = "anamnesis"
CONFIG, COPY = Path(NAME, "config.pbtxt"), Path(NAME, "1", "model.onnx")
TYPES = {"token": "TYPE_INT64", "visit": "TYPE_INT32", "age_days": "TYPE_FP32", "query_age_days": "TYPE_FP32"}
KINDS = {"cpu": "KIND_CPU", "cuda": "KIND_GPU"}
GRAPH_LEVEL = 1
"""onnxruntime's extended optimisations. Level 2 of Triton's backend switches all of them off, and weights that decode
themselves would then be decoded in every call."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How Triton runs a model."""

    max_batch: int = 32
    """Samples of one call, at most."""
    preferred: tuple[int, ...] = (8, 16, 32)
    """Sizes that the batcher sends on without waiting."""
    delay_microseconds: int = 2000
    """How long the batcher waits for others of the same length."""
    instances: int = 1
    """Sessions on each device."""
    threads: int = 2
    """Of one call within onnxruntime, on a CPU."""
    device: str = "cpu"
    """cpu or cuda."""
    warm_length: int = 64
    """Tokens of the sample that each session answers before it is called ready."""

    def __post_init__(self) -> None:
        """Refuse what Triton would."""
        if self.device not in KINDS:
            raise ValueError(f"device {self.device}: expected {' or '.join(KINDS)}")
        if min(self.max_batch, self.instances, self.threads, self.warm_length) < 1:
            raise ValueError("triton: max_batch, instances, threads and warm_length must be at least 1")
        if not all(0 < size <= self.max_batch for size in self.preferred):
            raise ValueError(f"triton: preferred sizes {self.preferred}; expected 1 to max_batch, {self.max_batch}")


def config(outcomes: int, horizons: int, settings: Settings | None = None) -> str:
    """Return config.pbtxt of a model with the inputs and outputs of a release.

    Shapes leave the batch out. The batcher joins requests of equal shape alone, so clients pad to the lengths of
    `ehr.batches.BUCKETS`; padding changes no score.

    Args:
        outcomes: K.
        horizons: H.
        settings: how it is run.
    """
    held = settings or Settings()
    # One age a sample: the model's axis is the batch itself, for which Triton takes one number and drops the axis.
    shapes = dict.fromkeys(TYPES, "dims: [ -1 ]") | {"query_age_days": "dims: [ 1 ]\n    reshape { shape: [ ] }"}
    inputs = ",\n".join(
        f'  {{\n    name: "{name}"\n    data_type: {kind}\n    {shapes[name]}\n  }}' for name, kind in TYPES.items()
    )
    outputs = ",\n".join(
        f'  {{\n    name: "{name}"\n    data_type: TYPE_FP32\n    dims: [ {outcomes}, {horizons} ]\n  }}'
        for name in ("logit", "probability")
    )
    warm = "\n".join(
        f'  inputs {{\n    key: "{name}"\n    value {{ data_type: {kind} dims: [ '
        f"{1 if name == 'query_age_days' else held.warm_length} ] zero_data: true }}\n  }}"
        for name, kind in TYPES.items()
    )
    sizes = ", ".join(map(str, held.preferred))
    return f"""name: "{NAME}"
backend: "onnxruntime"
max_batch_size: {held.max_batch}
input [
{inputs}
]
output [
{outputs}
]
dynamic_batching {{
  preferred_batch_size: [ {sizes} ]
  max_queue_delay_microseconds: {held.delay_microseconds}
}}
instance_group [ {{ count: {held.instances} kind: {KINDS[held.device]} }} ]
parameters {{ key: "intra_op_thread_count" value {{ string_value: "{held.threads}" }} }}
optimization {{ graph {{ level: {GRAPH_LEVEL} }} }}
version_policy {{ latest {{ num_versions: 1 }} }}
model_warmup [ {{
  name: "padding"
  batch_size: 1
{warm}
}} ]
"""


def write(folder: Path, model: Path, text: str) -> None:
    """Write Triton's folder.

    The model is a second name of the same file where the file system has such names (a hard link), so that it takes
    no room twice; copied elsewhere it may become a file of its own, with the same checksum.

    Args:
        folder: triton/ of a release; made.
        model: the ONNX file.
        text: what `config` returned.
    """
    copy = folder / COPY
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy.unlink(missing_ok=True)
    try:
        os.link(model, copy)
    except OSError:
        shutil.copyfile(model, copy)
    (folder / CONFIG).write_text(text, encoding="utf-8")
