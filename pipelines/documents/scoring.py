"""`anamnesis documents score`: answers with evidence for documents of any length, without torch."""

import argparse
import json
import shutil
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnxruntime
import polars as pl

from compress.onnx.session import one_runtime
from pipelines import artefacts
from pipelines.documents import catalogue as catalogues
from pipelines.documents import intake, temperature
from pipelines.documents.catalogue import Catalogue
from pipelines.documents.chunks import Chunks, Window, blocks, cut
from pipelines.documents.predictions import PREDICTIONS
from pipelines.documents.temperature import Calibration
from pipelines.documents.tokens import Text, Tokens
from pipelines.pool import cores, pool
from pipelines.progress import Track, say

EXAMPLES = """examples:
  anamnesis documents score release/ notes/ predictions/                       a folder of .txt files
  anamnesis documents score release/ documents.parquet predictions/            document_id, text, text_type
  anamnesis documents score release/ policies/ predictions/ --text-type policy
"""
MODEL, HEADS, CALIBRATION, CATALOGUE = "model.onnx", "heads.onnx", "calibration.json", "catalogue.json"
INPUTS = ("input_ids", "attention_mask", "owned")
OUTPUTS = ("logits", "chunk_weight", "window_mass", "window_state", "token_weight")
BLOCK = 8
"""Windows of one call. Calls have few shapes, so that what a document's answers are, to the last bit, hangs on nothing
but the document."""
SPAN, SPANS = 32, 3
"""Tokens of a piece of evidence, and pieces told."""
PART = 32
"""Documents of a file of predictions."""
PLAN = "plan.json"
Floats = npt.NDArray[np.float32]


class Release(NamedTuple):
    """A release of a reader, opened.

    Attributes:
        path: its folder.
        manifest: of it.
        catalogue: its questions.
        calibration: temperatures and threshold.
        tokens: its tokenizer.
        window: how texts are cut, without a limit.
        windows: session of the file for windows.
        heads: session of the file for heads.
    """

    path: Path
    manifest: dict[str, Any]
    catalogue: Catalogue
    calibration: Calibration
    tokens: Tokens
    window: Window
    windows: Any
    heads: Any

    @property
    def model(self) -> str:
        """SHA-256 of the model file."""
        return str(self.manifest["files"][MODEL]["sha256"])


class Reading(NamedTuple):
    """What a document answers to all questions of a catalogue.

    Attributes:
        logits: f32 [T, C].
        evidence: by question the heaviest spans, as (first character, the one behind the last, weight).
        truncated: whether the reader left out the end of the text.
    """

    logits: Floats
    evidence: list[list[tuple[int, int, float]]]
    truncated: bool


def open_files(folder: Path, *, threads: int = 1) -> tuple[Any, Any]:
    """Open the two model files of a release.

    Raises:
        ValueError: onnxruntime cannot open one, or it has other inputs and outputs.
    """
    one_runtime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 4
    made: list[Any] = []
    for name in (MODEL, HEADS):
        try:
            session = onnxruntime.InferenceSession(folder / name, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's own errors share no public base
            line = " ".join(str(error).split())[:200]
            raise ValueError(f"{folder / name}: onnxruntime cannot open it ({line}); export it again") from None
        made.append(session)
    found = tuple(item.name for item in made[0].get_inputs()), tuple(item.name for item in made[0].get_outputs())
    if found != (INPUTS, OUTPUTS):
        raise ValueError(f"{folder / MODEL}: inputs {', '.join(found[0])}; expected {', '.join(INPUTS)}")
    return made[0], made[1]


def open_release(path: Path, *, threads: int = 1) -> Release:
    """Open a release; checksums are compared first.

    Raises:
        ValueError: a file is missing or changed, or they do not belong together.
    """
    manifest = artefacts.read_manifest(path, "document_release")
    artefacts.verify(path, manifest)
    known = catalogues.load(path / CATALOGUE)
    held = temperature.from_json(json.loads((path / CALIBRATION).read_text(encoding="utf-8")))
    if known.digest != manifest["catalogue"] or len(held.temperature) != len(known.questions):
        raise ValueError(f"{path}: {CATALOGUE} is not that of {MODEL}; copy the whole folder again")
    window = Window(**manifest["window"], max_chunks=1 if manifest["truncating"] else None)
    return Release(path, manifest, known, held, Tokens.load(path), window, *open_files(path, threads=threads))


def read(release: Release, text: Text) -> Reading:
    """Read one document, block by block of its windows, in memory that its length hardly moves.

    A window gives the log of its attention's mass and the mean state under it; a document's states are the windows'
    means weighted by their masses, kept as a running sum.

    Args:
        release: opened.
        text: tokens, at least one.
    """
    window = release.window
    ranges = blocks(text, release.tokens, window, BLOCK)
    if window.max_chunks is not None:
        ranges = [range(window.max_chunks)]
    truncated = False
    mass: list[Floats] = []
    spans: list[tuple[int, Floats]] = []
    top = state = total = None
    for chosen in ranges:
        part = cut(text, release.tokens, window, chosen)
        truncated |= part.truncated
        found = run(release, part, 1 if len(ranges) == 1 and len(chosen) == 1 else BLOCK)
        for at in range(len(chosen)):
            own = found[0][:, at].astype(np.float64)
            mean = found[1][:, at].astype(np.float64)
            if top is None or state is None or total is None:
                top, state, total = own, mean, np.ones_like(own)
            else:
                new = np.maximum(top, own)
                before, here = np.exp(top - new) * total, np.exp(own - new)
                state = (state * before[:, None] + mean * here[:, None]) / (before + here)[:, None]
                top, total = new, before + here
                # The running sum is kept as a mean and its mass, so that nothing overflows.
            mass.append(own.astype(np.float32))
            spans.append(spans_of(part, at, found[2][:, at]))
    assert state is not None
    logits = release.heads.run(["logits"], {"state": state[None].astype(np.float32)})[0][0]
    return Reading(logits, evidence_of(text, np.stack(mass), spans, int(release.manifest["queries"])), truncated)


def run(release: Release, part: Chunks, rows: int) -> tuple[Floats, Floats, Floats]:
    """Return mass [T, N], state [T, N, d] and token weights [T, N, L] of a block of windows of one document."""
    number, length = part.token.shape
    ids = np.full((1, rows, length), release.tokens.pad, dtype=np.int64)
    mask, owned = np.zeros((2, 1, rows, length), dtype=np.bool_)
    ids[0, :number], mask[0, :number], owned[0, :number] = part.token, part.mask, part.owned
    given = dict(zip(INPUTS, (ids, mask, owned), strict=True))
    mass, state, weight = release.windows.run(list(OUTPUTS[2:]), given)
    return mass[0], state[0], weight[0]


def spans_of(part: Chunks, at: int, weight: Floats) -> tuple[int, Floats]:
    """Return the first span that a window owns tokens of, and its attention to each span, f32 [T, spans]."""
    here = part.owned[at]
    span = part.place[at, here] // SPAN
    if not len(span):
        return 0, np.zeros((len(weight), 0), dtype=np.float32)
    begins = np.flatnonzero(np.diff(span, prepend=-1))
    return int(span[0]), np.add.reduceat(weight[:, here], begins, axis=1)


def evidence_of(
    text: Text, mass: Floats, spans: Sequence[tuple[int, Floats]], queries: int
) -> list[list[tuple[int, int, float]]]:
    """Return the heaviest spans of each question.

    Args:
        text: the document.
        mass: of each window, f32 [N, T * queries].
        spans: of each window, its first span and weights f32 [T * queries, spans].
        queries: of a question; their attention is averaged.
    """
    share = np.exp(mass - mass.max(0))
    share /= share.sum(0)
    weight = np.zeros((mass.shape[1], -(-len(text.token) // SPAN)), dtype=np.float32)
    for row, (first, own) in zip(share, spans, strict=True):
        weight[:, first : first + own.shape[1]] += own * row[:, None]
    weight = weight.reshape(-1, queries, weight.shape[1]).mean(1)
    best = np.argsort(-weight, axis=1, kind="stable")[:, :SPANS]
    found: list[list[tuple[int, int, float]]] = []
    for question, places in enumerate(best.tolist()):
        told = [(place * SPAN, min((place + 1) * SPAN, len(text.token)) - 1, place) for place in places]
        found.append([(int(text.start[a]), int(text.end[b]), float(weight[question, place])) for a, b, place in told])
    return found


class Task(NamedTuple):
    """One file of predictions to be made."""

    number: int
    folder: Path
    release: Path
    documents: Path


@lru_cache(maxsize=1)
def opened(path: Path) -> Release:
    """Return a release, opened once a process."""
    return open_release(path)


def part_of(folder: Path, number: int) -> Path:
    """Return where a part of the predictions stands."""
    return folder / "predictions" / f"{number:05d}.parquet"


def score_part(task: Task) -> int:
    """Answer one part's documents and write it; return its documents."""
    release = opened(task.release)
    held = pl.scan_parquet(task.documents).slice(task.number * PART, PART).collect()
    asked = release.catalogue.asked()
    everything = tuple(range(len(release.catalogue.questions)))
    frames: list[pl.DataFrame] = [pl.DataFrame(schema=PREDICTIONS)]
    for row in held.iter_rows(named=True):
        text = release.tokens.encode([row["text"]])[0]
        places = everything if row["text_type"] is None else asked[row["text_type"]]
        frames.append(rows_of(release, row, read(release, text), places))
    path = part_of(task.folder, task.number)
    temporary = path.with_suffix(".partial")
    pl.concat(frames).write_parquet(temporary)
    temporary.rename(path)
    return len(held)


def rows_of(release: Release, row: dict[str, Any], reading: Reading, places: Sequence[int]) -> pl.DataFrame:
    """Return the predictions of one document."""
    at = np.array(places, dtype=np.int64)
    known, held = release.catalogue.questions, release.calibration
    probability = temperature.probabilities(reading.logits[at], held.temperature[at])
    best = probability.argmax(-1)
    rows: list[tuple[Any, ...]] = []
    for number, place in enumerate(places):
        question = known[place]
        told = [{"start": a, "end": b, "weight": w} for a, b, w in reading.evidence[place]]
        abstain = bool(probability[number, best[number]] < held.threshold)
        for option, words in enumerate(question.options):
            rows.append((
                row["document_id"], row["group_id"], question.id, question.subquestion, option, words,
                float(probability[number, option]), option == best[number], abstain, reading.truncated, told,
                release.model,
            ))  # fmt: skip
    return pl.DataFrame(rows, schema=PREDICTIONS, orient="row")


def score(
    release: Path,
    source: Path,
    target: Path,
    *,
    text_type: str | None = None,
    overwrite: bool = False,
    workers: int | None = None,
) -> dict[str, Any]:
    """Answer the questions of documents and return the manifest of the predictions.

    Where an earlier run was stopped, its finished parts are kept if release and documents are the same.

    Args:
        release: made by anamnesis documents export.
        source: a folder of .txt files, or a table with document_id and text.
        target: folder to be made.
        text_type: of documents that name none; None asks them all questions.
        overwrite: replace predictions that stand there.
        workers: processes; all cores where None.

    Raises:
        ValueError: bad input; nothing is left behind.
    """
    artefacts.refuse_existing(target, overwrite=overwrite)
    held = opened(release)
    taken = intake.take(source, held.catalogue.text_types, text_type)
    with artefacts.build(target, overwrite=overwrite, resume=True) as folder:
        begin(folder, {"release": artefacts.digest(release / artefacts.MANIFEST), "documents": taken.digest})
        taken.accepted.write_parquet(folder / "work" / "documents.parquet")
        number = -(-len(taken.accepted) // PART)
        tasks = [Task(at, folder, release, folder / "work" / "documents.parquet") for at in range(number)]
        left = [task for task in tasks if not part_of(folder, task.number).is_file()]
        if len(left) < number:
            say(f"going on: {number - len(left):,} of {number:,} parts are done")
        with Track("scoring, documents", len(taken.accepted)) as bar:
            bar.advance((number - len(left)) * PART)
            with pool(min(workers or cores(), max(1, len(left)))) as hands:
                for done in hands.map(score_part, left):
                    bar.advance(done)
        taken.rejected.write_parquet(folder / "rejected.parquet")
        shutil.rmtree(folder / "work")
        (folder / PLAN).unlink()
        return artefacts.write_manifest(
            folder,
            "document_predictions",
            release=artefacts.digest(release / artefacts.MANIFEST),
            model=held.model,
            source=taken.digest,
            documents=len(taken.accepted),
            rejected=len(taken.rejected),
        )


def begin(folder: Path, plan: dict[str, Any]) -> None:
    """Keep what an earlier run of the same plan left; take away that of another."""
    path = folder / PLAN
    if path.is_file() and json.loads(path.read_text(encoding="utf-8")) != plan:
        say("note: release or documents changed since the stopped run; starting anew")
        shutil.rmtree(folder)
    for part in ("predictions", "work"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for left in (folder / "predictions").glob("*.partial"):
        left.unlink()
    artefacts.write_json(path, plan)


def parser() -> argparse.ArgumentParser:
    """Return the command's arguments."""
    made = argparse.ArgumentParser(
        "anamnesis documents score",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("release", type=Path, help="made by anamnesis documents export")
    made.add_argument("source", type=Path, help="folder of .txt files, or a .parquet, .jsonl or .csv table")
    made.add_argument("predictions", type=Path, help="folder to be made")
    made.add_argument("--text-type", help="of documents that name none (default: ask them all questions)")
    made.add_argument("--overwrite", action="store_true", help="replace predictions that stand there")
    made.add_argument("--workers", type=int, help="processes (default: all cores)")
    return made


def main(argv: Sequence[str]) -> int:
    """Run the command; 3 where documents were rejected, and listed."""
    given = parser().parse_args(argv)
    manifest = score(
        given.release,
        given.source,
        given.predictions,
        text_type=given.text_type,
        overwrite=given.overwrite,
        workers=given.workers,
    )
    say(f"{given.predictions}: {manifest['documents']:,} documents read")
    if manifest["rejected"]:
        say(f"{manifest['rejected']:,} were rejected, with the reason: {given.predictions / 'rejected.parquet'}")
    return 3 if manifest["rejected"] else 0
