"""The reader: any encoder over the windows of a passage, a query a question, a logit an option (torch)."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import safetensors.torch
import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel

from pipelines import artefacts
from pipelines.documents import pooling
from pipelines.documents.heads import DescriptionHead, PaddedHead
from pipelines.documents.pooling import Pooled

WEIGHTS, SETTINGS = "model.safetensors", "reader.json"


@dataclass(frozen=True, kw_only=True)
class Reader:
    """Shape of a reader around its encoder."""

    pooling: Literal["question", "first_token"] = "question"
    """A learned or described query a question over all windows; or the first token of one window, as published."""
    head: Literal["padded", "legacy", "description"] = "padded"
    """One padded tensor; a dense layer a question as published; or from the words of question and options."""
    key_width: int = 128
    """Features in which queries and tokens meet."""
    queries: int = 1
    """Queries a question; their pooled states are put side by side and mapped back to the encoder's width."""
    dropout: float = 0.1
    """Of the heads."""
    frozen_layers: int = 0
    """Layers of the encoder, from below, that are not trained; with them its embeddings. 0: all are trained."""

    def __post_init__(self) -> None:
        """Refuse settings outside their range."""
        for name in ("key_width", "queries"):
            if getattr(self, name) < 1:
                raise ValueError(f"model.reader.{name} is {getattr(self, name)}; expected 1 or more")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"model.reader.dropout is {self.dropout}; expected 0 up to 1")
        if self.frozen_layers < 0:
            raise ValueError(f"model.reader.frozen_layers is {self.frozen_layers}; expected 0 or more")
        if self.head == "description" and self.pooling != "question":
            raise ValueError("model.reader.head is description; it needs model.reader.pooling question")


class Described(NamedTuple):
    """Questions and options in words, for the description head.

    Attributes:
        question_ids: of the questions asked, i64 [T, l].
        question_mask: bool [T, l].
        option_ids: each text once, i64 [O, m].
        option_mask: bool [O, m].
        option: which text each option of each question is, i64 [T, C]; 0 where there is no such option.
    """

    question_ids: Tensor
    question_mask: Tensor
    option_ids: Tensor
    option_mask: Tensor
    option: Tensor


class Asked(NamedTuple):
    """The questions of a batch: its columns.

    Attributes:
        task: numbers in the catalogue, i64 [T].
        num_options: i64 [T].
        described: in words, for the description head.
    """

    task: Tensor
    num_options: Tensor
    described: Described | None = None


class Reading(NamedTuple):
    """What a reader answers.

    Attributes:
        logits: f32 [P, T, C]; -1e4 where a question has no such option.
        chunk_weight: share of each window in each answer, f32 [P, T, N].
        token_weight: share of each token, f32 [P, T, N, L], without a gradient.
    """

    logits: Tensor
    chunk_weight: Tensor
    token_weight: Tensor


class DocumentReader(nn.Module):
    """One encoder pass over a passage answers all its questions."""

    def __init__(self, encoder: nn.Module, settings: Reader, questions: int, options: int) -> None:
        """Set up with random heads.

        Args:
            encoder: of transformers; gives last_hidden_state for inputs_embeds and attention_mask.
            settings: shape.
            questions: T of the catalogue.
            options: C, of the question that has most.
        """
        super().__init__()
        # Its tanh over token 0 is of no use here, and DDP waits for weights without a gradient.
        if hasattr(encoder, "pooler"):
            setattr(encoder, "pooler", None)  # noqa: B010  torch types it as a module
        config: Any = encoder.config
        width = int(config.hidden_size)
        self.encoder, self.settings, self.width = encoder, settings, width
        self.questions, self.options = questions, options
        described = settings.head == "description"
        keys = settings.key_width * settings.queries
        self.key = nn.Linear(width, settings.key_width, bias=False)
        self.asking = nn.Linear(width, keys) if described else nn.Embedding(questions, keys)
        self.join = nn.Linear(width * settings.queries, width) if settings.queries > 1 else nn.Identity()
        if settings.pooling == "first_token":
            self.key, self.asking, self.join = nn.Identity(), nn.Identity(), nn.Identity()
        if described:
            self.compose = nn.Linear(3 * width, width)
            self.head = DescriptionHead(width, dropout=settings.dropout)
        else:
            shared = settings.head == "padded"
            self.head = PaddedHead(width, questions, options, dropout=settings.dropout, shared=shared)
        self.freeze(settings.frozen_layers)

    def freeze(self, layers: int) -> None:
        """Take the lowest layers of the encoder, and its embeddings, out of training.

        Raises:
            ValueError: the encoder has fewer.
        """
        if not layers:
            return
        named = [part for part in self.encoder.modules() if isinstance(part, nn.ModuleList)]
        stack = max(named, key=len, default=nn.ModuleList())
        if layers > len(stack):
            raise ValueError(f"model.reader.frozen_layers is {layers}; the encoder has {len(stack)} layers")
        embeddings = [part for name, part in self.encoder.named_children() if "embed" in name]
        for part in (*embeddings, *stack[:layers]):
            part.requires_grad_(requires_grad=False)

    def embed(self, input_ids: Tensor) -> Tensor:
        """Return the encoder's word embeddings of windows, f32 [..., L, d]."""
        table: Any = self.encoder.get_input_embeddings()  # pyright: ignore[reportCallIssue]
        return table(input_ids)

    def encode(self, embedded: Tensor, mask: Tensor) -> Tensor:
        """Return states of embedded windows, f32 [M, L, d].

        Args:
            embedded: f32 [M, L, d].
            mask: bool [M, L].
        """
        # An attention over nothing is no number; what padding windows give is never looked at.
        opened = torch.cat([torch.ones_like(mask[:, :1]), mask[:, 1:]], -1)
        return self.encoder(inputs_embeds=embedded, attention_mask=opened.long()).last_hidden_state

    def mean_states(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Return the mean state of short texts, f32 [texts, d]."""
        weight = mask.to(torch.float32)[..., None]
        return (self.encode(self.embed(ids), mask) * weight).sum(1) / weight.sum(1).clamp(min=1)

    def pooled(self, state: Tensor, owned: Tensor, query: Tensor | None, questions: int) -> Pooled:
        """Pool the states of windows.

        Args:
            state: f32 [P, N, L, d].
            owned: bool [P, N, L].
            query: f32 [T, queries * d_k], None where the first token is taken.
            questions: T.
        """
        if query is None:
            return pooling.first_token(state, questions)
        number = self.settings.queries
        return pooling.pool(state, self.key(state), query.reshape(questions * number, -1), owned)

    def answer(self, pooled: Pooled, asked: Asked, option: Tensor | None) -> Reading:
        """Put windows together and answer."""
        z, share = pooling.merge(pooled)
        weight = (share[..., None] * pooled.weight).detach()
        number, questions = self.settings.queries, len(asked.task)
        if number > 1 and self.settings.pooling == "question":
            z = self.join(z.reshape(len(z), questions, number * self.width))
            share = share.reshape(len(share), questions, number, -1).mean(2)
            weight = weight.reshape(len(weight), questions, number, *weight.shape[2:]).mean(2)
        where = option if option is not None else asked.task
        return Reading(self.head(z, where, asked.num_options), share, weight)

    def questions_of(self, asked: Asked) -> tuple[Tensor | None, Tensor | None]:
        """Return the queries of questions, f32 [T, queries * d_k], and their options, f32 [T, C, d] if described."""
        if self.settings.head != "description":
            return (None if self.settings.pooling == "first_token" else self.asking(asked.task)), None
        words = asked.described
        assert words is not None
        question = self.mean_states(words.question_ids, words.question_mask)
        option = self.mean_states(words.option_ids, words.option_mask)[words.option]
        beside = question[:, None].expand_as(option)
        composed = torch.tanh(self.compose(torch.cat([beside, option, beside * option], -1)))
        return self.asking(question), composed

    def forward_embeddings(self, x: Tensor, attention_mask: Tensor, owned: Tensor, asked: Asked) -> Reading:
        """Answer from embeddings, which an adversary may have moved.

        Args:
            x: f32 [P * N, L, d].
            attention_mask: bool [P, N, L].
            owned: bool [P, N, L].
            asked: the questions.
        """
        passages, windows, length = attention_mask.shape
        state = self.encode(x, attention_mask.flatten(0, 1)).reshape(passages, windows, length, -1)
        query, option = self.questions_of(asked)
        return self.answer(self.pooled(state, owned, query, len(asked.task)), asked, option)

    def windows(
        self, input_ids: Tensor, attention_mask: Tensor, owned: Tensor, asked: Asked
    ) -> tuple[Pooled, Tensor | None]:
        """Return what each window says to each question, and the described options; arguments as of `forward`."""
        there = attention_mask.flatten(0, 1).any(-1)
        ids, mask = input_ids.flatten(0, 1)[there], attention_mask.flatten(0, 1)[there]
        found = self.encode(self.embed(ids), mask)
        state = found.new_zeros((len(there), *found.shape[1:])).index_put((there.nonzero()[:, 0],), found)
        state = state.reshape(*input_ids.shape, -1)
        query, option = self.questions_of(asked)
        return self.pooled(state, owned, query, len(asked.task)), option

    def forward(self, input_ids: Tensor, attention_mask: Tensor, owned: Tensor, asked: Asked) -> Reading:
        """Answer questions about passages.

        Args:
            input_ids: i64 [P, N, L].
            attention_mask: bool [P, N, L].
            owned: bool [P, N, L].
            asked: the questions.
        """
        pooled, option = self.windows(input_ids, attention_mask, owned, asked)
        return self.answer(pooled, asked, option)

    def among(self, pooled: Pooled, elsewhere: Tensor, owned: Tensor, tokens: Tensor) -> Pooled:
        """Put every passage of a batch beside so many tokens of the others: `pooling.among`.

        Args:
            pooled: of all queries.
            elsewhere: passages that say nothing of a question, bool [P, T].
            owned: bool [P, N, L].
            tokens: how many beside each passage, f32 [P].
        """
        return pooling.among(pooled, elsewhere.repeat_interleave(self.settings.queries, 1), owned, tokens)


def new_encoder(source: Path | None, config: dict[str, Any] | None, vocabulary: int, length: int) -> nn.Module:
    """Return an encoder from a local directory, or with random weights from a configuration.

    Args:
        source: folder of a Hugging Face model, with its weights.
        config: `model_type` and the settings of its configuration class, in place of a folder.
        vocabulary: ids of the tokenizer.
        length: positions of a window.

    Raises:
        ValueError: neither or both are given, they cannot be read, or the encoder is too small.
    """
    if (source is None) == (config is None):
        raise ValueError("model.encoder and model.encoder_config: expected one of the two")
    try:
        if source is not None:
            made: Any = AutoModel.from_pretrained(str(source), local_files_only=True, use_safetensors=True)
        else:
            given: dict[str, Any] = {"vocab_size": vocabulary, **(config or {})}
            made = AutoModel.from_config(AutoConfig.for_model(**given))
    except (OSError, ValueError, TypeError, KeyError) as error:
        where = f"model.encoder {source}" if source else "model.encoder_config"
        raise ValueError(f"{where}: {' '.join(str(error).split())[:200]}; expected a Hugging Face encoder") from None
    config_made: Any = made.config
    most = getattr(config_made, "max_position_embeddings", None)
    if most is not None and most < length:
        raise ValueError(f"data.window.length is {length}; this encoder takes {most} positions: lower it")
    if config_made.vocab_size < vocabulary:
        raise ValueError(f"the tokenizer has {vocabulary:,} ids, the encoder {config_made.vocab_size:,}; take its own")
    # What is read from a folder comes without dropout.
    return made.float().train()


def save(reader: DocumentReader, folder: Path) -> None:
    """Write a reader: the encoder's config.json, reader.json, model.safetensors."""
    folder.mkdir(parents=True, exist_ok=True)
    encoder: Any = reader.encoder
    encoder.config.save_pretrained(folder)
    settings = {"settings": asdict(reader.settings), "questions": reader.questions, "options": reader.options}
    artefacts.write_json(folder / SETTINGS, settings)
    held = {name: value.contiguous() for name, value in reader.state_dict().items()}
    artefacts.write_bytes(folder / WEIGHTS, safetensors.torch.save(held))


def load(folder: Path) -> DocumentReader:
    """Read a reader, in eval mode on the CPU.

    Raises:
        ValueError: a file is missing or they do not belong together.
    """
    for name in (WEIGHTS, SETTINGS, "config.json"):
        if not (folder / name).is_file():
            raise ValueError(f"{folder / name}: missing; expected the model of a run of anamnesis documents train")
    held = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
    encoder = AutoModel.from_config(AutoConfig.from_pretrained(str(folder), local_files_only=True))
    reader = DocumentReader(encoder, Reader(**held["settings"]), held["questions"], held["options"])
    try:
        reader.load_state_dict(safetensors.torch.load((folder / WEIGHTS).read_bytes()))
    except RuntimeError:
        raise ValueError(f"{folder / WEIGHTS}: not the weights of this reader; copy the run again") from None
    return reader.eval()


def all_questions(num_options: Sequence[int], described: Described | None = None) -> Asked:
    """Return all questions of a catalogue, in order."""
    options = torch.tensor(num_options, dtype=torch.int64)
    return Asked(torch.arange(len(num_options)), options, described)
