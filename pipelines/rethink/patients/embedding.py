"""One vector a record, from the encoder of a network that generates."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from ehr.batches import pad
from ehr.model import Anamnesis
from ehr.timelines import Sample

Floats = npt.NDArray[np.float32]


@torch.inference_mode()
def embed(network: Anamnesis, samples: Sequence[Sample], *, batch_tokens: int = 16_384) -> Floats:
    """Return what the encoder makes of records: the mean over all tokens beside the last one, f32 [N, 2 x width].

    The record is read as in training to generate: each token sees those before it. The mean tells what sort of
    patient this is, the last token what was just now.

    Args:
        network: in eval mode.
        samples: N records, each of one token at least.
        batch_tokens: positions computed at once, at most.
    """
    table = network.table()
    lengths = np.array([len(sample.token) for sample in samples], dtype=np.int64)
    order = np.argsort(-lengths, kind="stable")
    found = np.zeros((len(samples), 2 * table.shape[1]), dtype=np.float32)
    begin = 0
    while begin < len(order):
        length = max(1, int(lengths[order[begin]]))
        at = order[begin : begin + max(1, batch_tokens // length)]
        arrays = pad([in_order(samples[i]) for i in at], length=length, rows=len(at))
        token, visit, age, query = (torch.from_numpy(array).to(table.device) for array in arrays)
        segment = (token > 0).to(torch.int32)
        anchor = query[:, None].expand_as(age)
        encoded = network.encode(token, segment, visit, age, anchor, table).encoded.float()
        there = segment[..., None].float()
        mean = (encoded * there).sum(dim=1) / there.sum(dim=1)
        last = encoded[torch.arange(len(at)), segment.sum(dim=1).long() - 1]
        found[at] = torch.cat([mean, last], dim=1).cpu().numpy()
        begin += len(at)
    return found


def in_order(sample: Sample) -> Sample:
    """Return a sample with a visit a token, each age that of its visit's opening (see ehr.unrolling)."""
    dated = sample.visit > 0
    first = np.maximum.accumulate(np.where(np.diff(sample.visit, prepend=-1) != 0, np.arange(len(dated)), 0))
    age = np.where(dated, sample.age_days[first], sample.age_days).astype(np.float32)
    place = np.where(dated, np.arange(1, len(dated) + 1), 0).astype(np.int32)
    return sample._replace(visit=place, age_days=age)


def alike(query: Floats, pool: Floats) -> tuple[Floats, Floats]:
    """Return both with the pool's mean taken off and its spread made 1 in each feature.

    Encoders leave all records near one direction; without this their cosines hardly differ.
    """
    mean, spread = pool.mean(axis=0), pool.std(axis=0)
    spread = np.where(spread < 1e-6, 1, spread).astype(np.float32)
    return ((query - mean) / spread).astype(np.float32), ((pool - mean) / spread).astype(np.float32)
