"""A small entailment head: what words, numbers and frozen sentence embeddings tell of premise and hypothesis."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import safetensors.torch
import torch
from torch import Tensor, nn

from pipelines import artefacts
from pipelines.rethink.text import alignment
from pipelines.rethink.text.similarity import SentenceEncoder
from pipelines.rethink.text.splitting import sentences

SETTINGS, WEIGHTS = "alignment.json", "head.safetensors"
Floats = npt.NDArray[np.float32]
BLIND = [alignment.NAMES.index(name) for name in alignment.BLIND]


@dataclass(frozen=True, kw_only=True)
class Training:
    """How a head is trained."""

    epochs: int = 8
    """Passes over the pairs; the best on the tuning groups is kept."""
    batch: int = 128
    """Pairs a step."""
    rate: float = 1e-3
    """Of AdamW, highest of one cycle."""
    decay: float = 0.05
    """Of its weights."""
    width: int = 256
    """Of the hidden layer."""
    bag: int = 64
    """Numbers a word."""
    dropout: float = 0.4
    """Of inputs' and hidden layer."""
    tuning: float = 0.1
    """Share of the groups that choose the epoch."""
    hypothesis_only: bool = False
    """Whether the premise is hidden: a control."""
    embeddings: bool = True
    """Whether sentence embeddings stand beside what words and numbers tell; without them no encoder runs."""
    seed: int = 0
    """Of weights, order and tuning groups."""


class Pairs(NamedTuple):
    """N pairs as a head takes them.

    Attributes:
        dense: values and embeddings, f32 [N, D].
        words: buckets of each hypothesis' words.
        missing: of those, the ones that the premise lacks.
    """

    dense: Tensor
    words: Sequence[npt.NDArray[np.int64]]
    missing: Sequence[npt.NDArray[np.int64]]

    def rows(self, at: npt.NDArray[np.int64]) -> "Pairs":
        """Return some of them."""
        own = at.tolist()
        return Pairs(
            self.dense[torch.from_numpy(at)], [self.words[one] for one in own], [self.missing[one] for one in own]
        )


def prepare(
    premises: Sequence[str],
    hypotheses: Sequence[str],
    encoder: SentenceEncoder | None,
    *,
    hypothesis_only: bool = False,
) -> Pairs:
    """Return pairs as a head takes them.

    The premise is cut into sentences; of each pair the sentence whose embedding is nearest to the hypothesis' stands
    beside it. With `hypothesis_only` nothing of the premise is in what is returned. Without an encoder there are no
    embeddings, only what words and numbers tell.
    """
    held = {text: alignment.take(text) for text in dict.fromkeys(premises)}
    aligned = [alignment.align(held[p], h) for p, h in zip(premises, hypotheses, strict=True)]
    value = np.stack([own.value for own in aligned]) if aligned else np.empty((0, len(alignment.NAMES)), np.float32)
    words = [own.words for own in aligned]
    missing = [own.missing for own in aligned]
    if hypothesis_only:
        value, missing = value[:, BLIND], [np.empty(0, dtype=np.int64)] * len(words)
    if encoder is None:
        return Pairs(torch.from_numpy(value), words, missing)
    said = encoder.encode(hypotheses)
    if hypothesis_only:
        return Pairs(torch.from_numpy(np.hstack([value, said])), words, missing)
    cut = {text: sentences(text) or [text] for text in held}
    encoder.encode([sentence for own in cut.values() for sentence in own])
    rows = {text: encoder.encode(own) for text, own in cut.items()}
    beside = np.empty_like(said)
    near = np.zeros((len(said), 3), dtype=np.float32)
    for at, text in enumerate(premises):
        cosine = rows[text] @ said[at]
        beside[at] = rows[text][int(cosine.argmax())]
        best = np.sort(cosine)[::-1][:3]
        near[at, : len(best)] = best
    dense = np.hstack([value, near, said, beside, said * beside, np.abs(said - beside)])
    return Pairs(torch.from_numpy(dense), words, missing)


class PairHead(nn.Module):
    """Two bags of words and a dense part, one hidden layer, three logits."""

    def __init__(self, dense: int, settings: Training) -> None:
        """Make it for a number of dense inputs."""
        super().__init__()
        self.words = nn.EmbeddingBag(alignment.BUCKETS, settings.bag, mode="sum")
        self.missing = nn.EmbeddingBag(alignment.BUCKETS, settings.bag, mode="sum")
        nn.init.normal_(self.words.weight, std=0.02)
        nn.init.normal_(self.missing.weight, std=0.02)
        self.norm = nn.BatchNorm1d(dense, affine=False)
        self.layers = nn.Sequential(
            nn.Dropout(settings.dropout),
            nn.Linear(dense + 2 * settings.bag, settings.width),
            nn.GELU(),
            nn.Dropout(settings.dropout),
            nn.Linear(settings.width, 3),
        )

    def forward(self, pairs: Pairs) -> Tensor:
        """Return logits of entailment, neutral and contradiction, f32 [N, 3]."""
        bags = [bag(*flat(held)) for bag, held in ((self.words, pairs.words), (self.missing, pairs.missing))]
        return self.layers(torch.cat([self.norm(pairs.dense), *bags], 1))


def flat(held: Sequence[npt.NDArray[np.int64]]) -> tuple[Tensor, Tensor]:
    """Return bags one behind the other, and where each begins."""
    sizes = np.array([len(own) for own in held], dtype=np.int64)
    begins = np.concatenate([[0], np.cumsum(sizes)[:-1]]) if len(sizes) else sizes
    whole = np.concatenate([*held, np.empty(0, dtype=np.int64)])
    return torch.from_numpy(whole), torch.from_numpy(begins.astype(np.int64))


def train(
    pairs: Pairs, label: npt.NDArray[np.int64], group: Sequence[str], settings: Training
) -> tuple[PairHead, float]:
    """Return a trained head and its accuracy on the tuning groups, which chose its epoch.

    Args:
        pairs: N.
        label: 0 entailment, 1 neutral, 2 contradiction, i64 [N].
        group: pairs of one premise stay on one side.
        settings: how.

    Raises:
        ValueError: there are too few groups to keep some for tuning.
    """
    names = sorted(set(group))
    draw = np.random.default_rng(settings.seed)
    kept = set(draw.permutation(names)[: max(1, round(settings.tuning * len(names)))].tolist())
    outside = np.flatnonzero([name in kept for name in group])
    inside = np.flatnonzero([name not in kept for name in group])
    if len(inside) < settings.batch or not len(outside):
        raise ValueError(f"{len(label):,} pairs of {len(names)} premises: too few to train on; give more")
    torch.manual_seed(settings.seed)
    head = PairHead(pairs.dense.shape[1], settings)
    optimizer = torch.optim.AdamW(head.parameters(), lr=settings.rate, weight_decay=settings.decay)
    steps = settings.epochs * (len(inside) // settings.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, settings.rate, total_steps=steps, pct_start=0.1)
    best, state = -1.0, head.state_dict()
    for _ in range(settings.epochs):
        head.train()
        order = draw.permutation(inside)
        for begin in range(0, len(order) - settings.batch + 1, settings.batch):
            at = order[begin : begin + settings.batch]
            loss = nn.functional.cross_entropy(head(pairs.rows(at)), torch.from_numpy(label[at]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        value = float((probabilities(head, pairs.rows(outside)).argmax(1) == label[outside]).mean())
        if value > best:
            best, state = value, {name: held.clone() for name, held in head.state_dict().items()}
    head.load_state_dict(state)
    return head.eval(), best


def probabilities(head: PairHead, pairs: Pairs) -> Floats:
    """Return probabilities, f32 [N, 3]."""
    head.eval()
    with torch.inference_mode():
        return torch.softmax(head(pairs), 1).numpy()


class AlignmentHead:
    """A trained head with the encoder it was trained over, or None: an `Entailment`."""

    def __init__(self, head: PairHead, encoder: SentenceEncoder | None, *, hypothesis_only: bool) -> None:
        """Take both."""
        self.head, self.encoder, self.hypothesis_only = head, encoder, hypothesis_only

    def judge(self, premises: Sequence[str], hypotheses: Sequence[str]) -> Floats:
        """Return the probabilities of entailment, neutral and contradiction, f32 [N, 3]."""
        return probabilities(
            self.head, prepare(premises, hypotheses, self.encoder, hypothesis_only=self.hypothesis_only)
        )


def save(head: PairHead, settings: Training, encoder: SentenceEncoder | None, folder: Path) -> None:
    """Write a head: its settings, the width and a digest of its encoder, and safetensors."""
    content = {
        "settings": asdict(settings),
        "dense": head.norm.num_features,
        "encoder": fingerprint(encoder) if settings.embeddings else "",
    }
    artefacts.write_json(folder / SETTINGS, content)
    held = {name: value.contiguous() for name, value in head.state_dict().items()}
    artefacts.write_bytes(folder / WEIGHTS, safetensors.torch.save(held))


def load(folder: Path, encoder: SentenceEncoder) -> AlignmentHead:
    """Open a trained head.

    Raises:
        ValueError: it is damaged, or was trained over another encoder.
    """
    try:
        content: dict[str, Any] = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        settings = Training(**content["settings"])
        head = PairHead(int(content["dense"]), settings)
        head.load_state_dict(safetensors.torch.load((folder / WEIGHTS).read_bytes()))
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, safetensors.SafetensorError) as error:
        line = " ".join(str(error).split())[:120]
        raise ValueError(f"{folder}: not a trained head ({line}); make it again") from None
    if settings.embeddings and content["encoder"] != fingerprint(encoder):
        raise ValueError(f"{folder}: was trained over another sentence encoder; give that one as --encoder")
    used = encoder if settings.embeddings else None
    return AlignmentHead(head.eval(), used, hypothesis_only=settings.hypothesis_only)


def fingerprint(encoder: SentenceEncoder | None) -> str:
    """Return what tells one encoder from another: its embedding of one sentence, to two digits.

    Raises:
        ValueError: there is none.
    """
    if encoder is None:
        raise ValueError("a head with embeddings has a sentence encoder; give it")
    probe = encoder.encode(["The patient was seen on Monday."])[0]
    return " ".join(f"{value:.2f}" for value in (probe[:16] + 0.0).tolist())
