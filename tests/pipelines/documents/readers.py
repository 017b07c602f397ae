"""A small reader and its tokenizer, for tests."""

import numpy as np
import torch

from pipelines.documents.batches import Collator
from pipelines.documents.chunks import Window
from pipelines.documents.model import DocumentReader, Reader, new_encoder
from pipelines.documents.passages import Rows, gather
from pipelines.documents.tokens import of_words

WORDS = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "the", "of", "and", "or"]
BERT = {
    "model_type": "bert",
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 512,
}
OPTIONS = [2, 3, 5]


def text(length, seed=0):
    return " ".join(np.random.default_rng(seed).choice(WORDS, length))


def tokens():
    return of_words([" ".join(WORDS)], 64)


def reader(length=512, options=OPTIONS, seed=0, **settings):
    torch.manual_seed(seed)
    encoder = new_encoder(None, dict(BERT), tokens().size, length)
    return DocumentReader(encoder, Reader(key_width=8, **settings), len(options), max(options)).eval()


def collator(texts, tasks, labels, window=None, options=OPTIONS, words=None):
    held = tokens()
    rows = Rows(texts, np.array(tasks, dtype=np.int64), np.array(labels, dtype=np.int64))
    return Collator(gather(rows, held), held, window or Window(length=32, overlap=8), options, words)


def whole(made):
    """Return all rows of a collator as one batch."""
    count = len(made.passages.label)
    return made.collate(np.arange(count), np.ones(count, dtype=np.float32))


def logits(network, batch):
    with torch.no_grad():
        return network(batch.input_ids, batch.attention_mask, batch.owned, batch.asked).logits
