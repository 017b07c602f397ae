"""Logits of a run on samples, in torch: what evaluation and the parity of an export compare with."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from transformers.utils.logging import disable_progress_bar

from ehr import calibration as calibrations
from ehr.batches import pad
from ehr.calibration import Calibration
from ehr.model import Anamnesis
from ehr.timelines import Sample


def load_network(run: Path) -> Anamnesis:
    """Load the network of a run, in eval mode.

    Args:
        run: a run, or its folder `model`.

    Raises:
        ValueError: there is no whole model.
    """
    folder = run / "model" if (run / "model").is_dir() else run
    if not (folder / "model.safetensors").is_file() or not (folder / "config.json").is_file():
        raise ValueError(f"{run}: holds no model; expected a run made by anamnesis pretrain or finetune")
    disable_progress_bar()
    try:
        return Anamnesis.from_pretrained(folder, local_files_only=True, use_safetensors=True).eval()
    except (OSError, RuntimeError, KeyError, TypeError) as error:
        raise ValueError(f"{folder}: not a whole model ({type(error).__name__}); train again, or copy again") from None


def predict(run: Path, samples: Sequence[Sample], *, batch_tokens: int = 16_384) -> npt.NDArray[np.float32]:
    """Return raw logits of all outcomes, before calibration.

    Args:
        run: a fine-tuned run, or its folder `model`.
        samples: N samples; one without tokens is a patient without history.
        batch_tokens: positions computed at once, at most.

    Returns:
        f32 [N, K, H].

    Raises:
        ValueError: the run has no outcomes.
    """
    network = load_network(run)
    if not network.config.outcomes:
        raise ValueError(f"{run}: is pretrained only and knows no outcomes; expected a run of anamnesis finetune")
    return logits(network, samples, batch_tokens=batch_tokens)


@torch.inference_mode()
def logits(network: Anamnesis, samples: Sequence[Sample], *, batch_tokens: int = 16_384) -> npt.NDArray[np.float32]:
    """Return raw logits f32 [N, K, H] of a network in eval mode; samples of like length share a batch."""
    lengths = np.array([len(sample.token) for sample in samples], dtype=np.int64)
    order = np.argsort(-lengths, kind="stable")
    shape = network.heads.bias.shape
    found = np.zeros((len(samples), *shape), dtype=np.float32)
    table = network.table()
    device = table.device
    begin = 0
    while begin < len(order):
        length = max(1, int(lengths[order[begin]]))
        at = order[begin : begin + max(1, batch_tokens // length)]
        arrays = pad([samples[i] for i in at], length=length, rows=len(at))
        found[at] = network.score(*(torch.from_numpy(array).to(device) for array in arrays), table).float().cpu()
        begin += len(at)
    return found


def probabilities(network: Anamnesis, calibration: Calibration, samples: Sequence[Sample]) -> npt.NDArray[np.float32]:
    """Return calibrated probabilities f32 [N, K, H] of a network in eval mode."""
    return calibrations.apply(calibration, logits(network, samples)).astype(np.float32)
