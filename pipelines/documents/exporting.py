"""`anamnesis documents export`: a reader to a release: one ONNX file for windows, a small one for the heads."""

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jsonargparse import ArgumentError, ArgumentParser
from torch import Tensor, nn

from compress.onnx.export import export as to_onnx
from compress.onnx.manifest import describe
from compress.onnx.parity import Parity, enforce
from pipelines import artefacts
from pipelines.documents import catalogue as catalogues
from pipelines.documents import scoring
from pipelines.documents.batches import Collator, DocumentBatch
from pipelines.documents.catalogue import Catalogue
from pipelines.documents.chunks import Window
from pipelines.documents.corpus import CATALOGUE_FILE, TRAIN, open_corpus, rows_of, write_catalogue
from pipelines.documents.hooks import Compression
from pipelines.documents.model import Asked, DocumentReader, all_questions, load
from pipelines.documents.passages import gather
from pipelines.documents.pooling import Pooled
from pipelines.documents.scoring import CALIBRATION, HEADS, INPUTS, MODEL, OUTPUTS, open_files
from pipelines.documents.temperature import Calibration
from pipelines.documents.tokens import FILE as TOKENIZER
from pipelines.documents.tokens import Text, Tokens
from pipelines.documents.training import words_of
from pipelines.progress import say

EXAMPLES = """examples:
  anamnesis documents export run/ release/
  anamnesis documents export run/ release/ --catalogue more-questions.yaml      a description head: unseen questions
  anamnesis documents export run/ release/ --compression pipelines.documents.hooks.DynamicInt8
"""
TOLERANCE = 1e-4
"""Largest difference of logits between torch and the exported file."""
SHAPES = ((1, 1, 16), (3, 1, 16), (1, 5, 16), (3, 5, 16), (1, 1, 512), (3, 1, 512), (1, 5, 512), (3, 5, 512))
"""Passages, windows and positions at which the two are compared."""
CALIBRATING = 32
"""Training passages that a compression may look at."""


class Windows(nn.Module):
    """A reader with its questions inside: what the file for windows computes."""

    def __init__(self, reader: DocumentReader, asked: Asked) -> None:
        """Work out queries and options once; they are constants of the file."""
        super().__init__()
        self.reader, self.number = reader.eval(), len(asked.task)
        with torch.no_grad():
            query, option = reader.questions_of(asked)
        self.query = None if query is None else nn.Buffer(query)
        self.option = None if option is None else nn.Buffer(option)
        self.task, self.num_options = nn.Buffer(asked.task), nn.Buffer(asked.num_options)

    def asked(self) -> Asked:
        """Return the questions."""
        return Asked(self.task, self.num_options)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, owned: Tensor) -> tuple[Tensor, ...]:
        """Return logits, chunk_weight, and by window mass, state and token_weight (see OUTPUTS)."""
        reader = self.reader
        passages, windows, length = input_ids.shape
        embedded = reader.embed(input_ids.reshape(passages * windows, length))
        found = reader.encode(embedded, attention_mask.reshape(passages * windows, length))
        state = found.reshape(passages, windows, length, reader.width)
        pooled = reader.pooled(state, owned, self.query, self.number)
        reading = reader.answer(pooled, self.asked(), self.option)
        return reading.logits, reading.chunk_weight, pooled.mass, pooled.state, pooled.weight


class Heads(nn.Module):
    """What turns pooled states of whole documents into logits."""

    def __init__(self, windows: Windows) -> None:
        """Share the reader."""
        super().__init__()
        self.windows = windows

    def forward(self, state: Tensor) -> Tensor:
        """Map states f32 [P, T * queries, d], put together over windows, to logits f32 [P, T, C]."""
        own = self.windows
        mass = torch.zeros_like(state[..., :1])
        pooled = Pooled(mass, state[:, :, None], mass[..., None])
        return own.reader.answer(pooled, own.asked(), own.option).logits


def graphs(reader: DocumentReader, asked: Asked) -> tuple[Any, Any, Windows]:
    """Return the checked ONNX models of windows and of heads, and the module they were made of."""
    module = Windows(reader, asked)
    # Sizes that no other axis has.
    shape = (2, 3, 24)
    example = {
        "input_ids": torch.full(shape, 1, dtype=torch.int64),
        "attention_mask": torch.ones(shape, dtype=torch.bool),
        "owned": torch.ones(shape, dtype=torch.bool),
    }
    axes = dict.fromkeys(example, ("passages", "windows", "length"))
    windows = to_onnx(module, example, axes, OUTPUTS)
    rows = len(asked.task) * (reader.settings.queries if reader.settings.pooling == "question" else 1)
    state = {"state": torch.zeros((2, rows, reader.width))}
    return windows, to_onnx(Heads(module), state, {"state": ("passages",)}, ("logits",)), module


def compare(module: Windows, folder: Path, *, vocabulary: int, length: int, seed: int = 0) -> Parity:
    """Compare torch with the file over passages, windows and positions, some of them padding."""
    session, _ = open_files(folder)
    draw = np.random.Generator(np.random.Philox(key=seed))
    apart: list[npt.NDArray[np.float64]] = []
    for passages, windows, positions in SHAPES:
        shape = (passages, windows, min(positions, length))
        ids = draw.integers(0, vocabulary, shape)
        mask = np.arange(shape[2]) < draw.integers(shape[2] // 2, shape[2] + 1, shape[:2])[..., None]
        if windows > 1:
            mask[:, -1] = False
        given = dict(zip(INPUTS, (ids, mask, mask & (np.arange(shape[2]) > 0)), strict=True))
        with torch.no_grad():
            expected = module(*(torch.from_numpy(part) for part in given.values()))[0].numpy()
        found = session.run(["logits"], given)[0]
        difference = np.abs(expected.astype(np.float64) - found.astype(np.float64))
        apart.append(np.where(np.isfinite(difference), difference, np.inf).ravel())
    everything = np.concatenate(apart)
    return Parity(float(everything.max()), float(everything.mean()), len(SHAPES))


def calibrating(path: Path, catalogue: Catalogue, tokens: Tokens, window: Window) -> list[DocumentBatch]:
    """Return some training passages, one a batch, for a compression to look at."""
    corpus = open_corpus(path)
    if corpus.catalogue.digest != catalogue.digest:
        raise ValueError(f"{path}: has another catalogue than the run; give the corpus it was trained on")
    passages = gather(rows_of(corpus.documents, corpus.catalogue, TRAIN), tokens)
    collator = Collator(passages, tokens, window, catalogue.num_options.tolist(), words_of(catalogue, tokens))
    order = np.random.Generator(np.random.Philox(key=0)).permutation(len(passages.texts))[:CALIBRATING]
    rows = [np.flatnonzero(passages.passage == at) for at in order.tolist()]
    return [collator.collate(at, np.ones(len(at), dtype=np.float32)) for at in rows]


def questions(run: Path, reader: DocumentReader, tokens: Tokens, other: Path | None) -> tuple[Catalogue, Asked]:
    """Return the catalogue of a release and its questions as the reader takes them.

    Raises:
        ValueError: another catalogue for a reader whose heads know their own questions only.
    """
    described = reader.settings.head == "description"
    if other is not None and not described:
        raise ValueError(f"--catalogue {other}: this reader's head is {reader.settings.head}; only a description head "
                         "answers questions it was not trained on")  # fmt: skip
    held = catalogues.load(other or run / CATALOGUE_FILE)
    options = held.num_options.tolist()
    task = np.arange(len(options), dtype=np.int64)
    words = words_of(held, tokens).of_tasks(task, max(options)) if described else None
    return held, all_questions(options, words)


def export(
    run: Path,
    release: Path,
    *,
    corpus: Path | None = None,
    catalogue: Path | None = None,
    compression: Compression | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Make a release and return its manifest.

    Args:
        run: of anamnesis documents train.
        release: folder to be made.
        corpus: whose training passages a compression may look at.
        catalogue: other questions, for a reader with a description head.
        compression: what is done to weights and file.
        overwrite: replace a release that stands there.

    Raises:
        ValueError: bad input, or the file's logits differ from torch's; nothing is left behind.
    """
    held = artefacts.read_manifest(run, "reader")
    artefacts.verify(run, held)
    artefacts.refuse_existing(release, overwrite=overwrite)
    tokens, reader = Tokens.load(run), load(run / "model")
    known, asked = questions(run, reader, tokens, catalogue)
    window = Window(**held["window"], max_chunks=1 if held["truncating"] else None)
    with artefacts.build(release, overwrite=overwrite) as folder:
        if compression is not None:
            compression.compress_reader(reader, calibrating(corpus, known, tokens, window) if corpus else [])
        windows, heads, module = graphs(reader, asked)
        artefacts.write_bytes(folder / MODEL, windows.SerializeToString(deterministic=True))
        artefacts.write_bytes(folder / HEADS, heads.SerializeToString(deterministic=True))
        found = compare(module, folder, vocabulary=tokens.size, length=window.length)
        say(f"parity: logits differ from torch by at most {found.max_abs:.2g}")
        enforce(found, TOLERANCE)
        method = "fp32"
        if compression is not None:
            compression.compress_file(folder / MODEL)
            method = type(compression).__name__
        shutil.copyfile(run / TOKENIZER, folder / TOKENIZER)
        write_catalogue(known, folder)
        write_calibration(run, folder, len(known.questions), same=catalogue is None)
        manifest = artefacts.write_manifest(
            folder,
            "document_release",
            run=artefacts.digest(run / artefacts.MANIFEST),
            catalogue=known.digest,
            window=held["window"],
            truncating=held["truncating"],
            queries=reader.settings.queries if reader.settings.pooling == "question" else 1,
            method=method,
            parity=found._asdict(),
            trained_on={name: held[name] for name in ("corpus", "answers", "passages")},
            model_bytes=(folder / MODEL).stat().st_size,
            **describe(windows),
        )
        # Opened as it will be used, and asked something.
        opened = scoring.open_release(folder)
        scoring.read(opened, Text(*(np.zeros(3, dtype=np.int32) for _ in range(3))))
    return manifest


def write_calibration(run: Path, folder: Path, number: int, *, same: bool) -> None:
    """Copy the calibration of the run; other questions have none of their own."""
    if same:
        shutil.copyfile(run / CALIBRATION, folder / CALIBRATION)
        return
    plain = Calibration(np.ones(number), 0.0, 1.0, 1.0, 1.0)
    artefacts.write_json(folder / CALIBRATION, plain.to_json())


def parser() -> ArgumentParser:
    """Return the command's arguments."""
    made = ArgumentParser(
        prog="anamnesis documents export",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        exit_on_error=False,
    )
    made.add_argument("run", type=Path, help="run of anamnesis documents train")
    made.add_argument("release", type=Path, help="folder to be made")
    made.add_argument("--corpus", type=Path, help="training passages that a compression may look at")
    made.add_argument("--catalogue", type=Path, help="other questions, for a reader with a description head")
    made.add_argument("--compression", type=Compression | None, default=None, help="by class_path")
    made.add_argument("--overwrite", action="store_true", help="replace a release that stands there")
    return made


def main(argv: Sequence[str]) -> int:
    """Run the command."""
    own = parser()
    try:
        given: Any = own.parse_args(list(argv))
    except ArgumentError as error:
        raise ValueError(" ".join(str(error).split())[:300]) from None
    made: Any = own.instantiate_classes(given)
    manifest = export(
        Path(made.run),
        Path(made.release),
        corpus=made.corpus,
        catalogue=made.catalogue,
        compression=made.compression,
        overwrite=made.overwrite,
    )
    say(f"{given.release}: {MODEL} of {manifest['model_bytes'] / 1e6:.1f} MB, {manifest['method']}")
    return 0
