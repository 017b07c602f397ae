"""A network that generates, over a small vocabulary with encounters, and records for it."""

import numpy as np
import torch

from ehr.batches import collate
from ehr.continuation import AnamnesisForCausalLM
from ehr.grammar import TIME_BINS, grammar
from ehr.network import AnamnesisConfig
from ehr.timelines import Sample
from ehr.vocabulary import Vocabulary

CODES = (
    *("[PAD]", "[UNK]", "[MASK]", "SEX//F", "VISIT//IP//START", "VISIT//IP//END", "VISIT//OP//START"),
    *("VISIT//OP//END", "MEDS_DEATH", *(f"X//{i}" for i in range(11))),
)
SIZE = len(CODES)
SEX, IN, OUT, AMBULANT, DEAD = 3, 4, 5, 6, 8


def vocabulary():
    chains = tuple(() if i < 15 else (9 + i % 3,) for i in range(SIZE))
    return Vocabulary(codes=CODES, patients=(1,) * SIZE, cuts={}, ancestors=chains)


def rules():
    seen = np.ones(SIZE, dtype=bool)
    seen[SEX] = False
    return grammar(vocabulary(), seen)


def network(seed=0, **shape):
    torch.manual_seed(seed)
    settings = {"width": 32, "heads": 2, "encoder_layers": 2, "decoder_layers": 2, "dropout": 0.0, **shape}
    config = AnamnesisConfig(vocabulary_size=SIZE, ancestor_links=5, network=settings, time_bins=TIME_BINS)
    model = AnamnesisForCausalLM(config)
    model.know(vocabulary())
    model.obey(rules())
    with torch.no_grad():
        torch.nn.init.normal_(model.clock.weight, std=0.3)
        model.clock.bias -= 2
        model.sets.bias[DEAD] -= 2
        torch.nn.init.normal_(model.sets.query)
    return model.eval()


def sample(length, seed=0, subject=1):
    """Return a record of one static and visits of a few tokens, asked some days after its last token."""
    draw = np.random.default_rng([length, seed])
    visit = np.sort(draw.integers(1, max(2, length // 3) + 1, length)).astype(np.int32)
    visit = np.unique(visit, return_inverse=True)[1].astype(np.int32) + 1
    age = np.sort(draw.random(length) * 20_000 + 8_000).astype(np.float32)
    token = draw.integers(9, SIZE, length).astype(np.int32)
    token[np.flatnonzero(np.diff(visit, prepend=0))] = draw.choice([IN, AMBULANT, 9], visit.max())
    visit, age, token = (np.insert(part, 0, first) for part, first in ((visit, 0), (age, 0), (token, SEX)))
    return Sample(subject, 7 + subject, token, visit, age, float(age[-1]) + 20)


def tensors(batch):
    if batch is None:
        return None
    return type(batch)(*(tensors(x) if x is None or isinstance(x, tuple) else torch.from_numpy(x) for x in batch))


def batch_of(rows, width=None):
    width = width or max(sum(len(one.token) for one in row) for row in rows)
    return tensors(collate(rows, width))
