"""The loss over all questions of a step, and the published one: `python -m tests.benchmarks.documents.multitask`."""

import argparse
import json
import sys

import numpy as np
import polars as pl
import torch

from pipelines.documents import evaluation, training
from pipelines.documents.corpus import TRAIN as TRAINED
from tests.benchmarks.documents.generated import CONFIG, PARTS, cohort, probabilities, short, trained, training_corpus
from tests.benchmarks.harness import RUNS, Figure, mean_of

COMMAND = "python -m tests.benchmarks.documents.multitask"
SEEDS = (0, 1, 2, 3, 4)
STEPS, WARM, GROUPS = 432, 0, 120
"""Optimizer steps of each arm: twelve times through all questions, four a step; the seed whose encoder both arms start
from; groups to train on."""
TEST = 60
ARMS = {"corrected": "false", "published": "true"}
SETTINGS = {
    "data.data_types": '["abridged", "rare_answers"]',
    "data.sampling.by": "tasks",
    "data.sampling.tasks": "4",
    "data.sampling.rows": "16",
    "data.sampling.rounds": "12",
    "model.optimizer.schedule": "constant",
    "model.optimizer.head_rate": "1.0e-2",
    "model.optimizer.encoder_rate": "1.0e-4",
    "model.distractors": "0",
    "trainer.max_epochs": "1",
}


def start(encoder, tokens, warm, known):
    """Give an encoder the weights of a trained one; words go by name, since tokenizers number them by frequency."""
    table = encoder.get_input_embeddings().weight.detach().clone()
    held = warm.state_dict()
    encoder.load_state_dict({name: value for name, value in held.items() if value.shape != table.shape}, strict=False)
    old = known.tokenizer.get_vocab()
    with torch.no_grad():
        for word, number in tokens.tokenizer.get_vocab().items():
            if word in old:
                encoder.get_input_embeddings().weight[number] = warm.get_input_embeddings().weight[old[word]]


def read(seed, arm):
    """Train one arm and return its minority AUPR over questions, near cues of fresh groups."""
    encoder, tokens = trained(WARM)
    corpus = training_corpus(100 + seed, GROUPS)
    # Without a tuning split the last weights are kept: both arms have the same steps.
    corpus = corpus._replace(documents=corpus.documents.filter(pl.col("split") == TRAINED))
    words = [part for name, value in SETTINGS.items() for part in (f"--{name}", value)]
    words += ["--seed_everything", str(seed), "--model.legacy_last_task_loss", ARMS[arm]]
    made = training.settings(CONFIG, words)
    own = training.build(made, corpus)
    start(made.module.network.encoder, own, encoder.encoder, tokens)
    folder = RUNS / "documents" / f"multitask-{seed}-{arm}"
    folder.mkdir(parents=True, exist_ok=True)
    training.fit(made, folder, every=10_000, patience=0, label=f"{arm} {seed}")
    held, documents = cohort(TEST, 10 * (100 + seed) + 3, abridged=0, counterfactual=0)
    rows = short(documents.filter(~pl.col("far"))).drop("far")
    with torch.no_grad():
        found = {"reader": probabilities(made.module.network, own, rows, held.catalogue, None)}
    scores = evaluation.evaluate(rows, found, held.catalogue, resamples=2, allow_missing_classes=True).scores
    level = scores.filter((pl.col("level") == "all") & (pl.col("metric") == "minority_aupr"))
    return {"minority_aupr": float(level["value"][0]), "rows": len(rows), "tasks": int(level["tasks"][0])}


def part(seed):
    """Return both arms of a seed, measured where they do not stand there yet."""
    path = PARTS / f"documents.multitask-{seed}.json"
    if not path.is_file():
        content = {arm: read(seed, arm) for arm in ARMS}
        PARTS.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return json.loads(path.read_text(encoding="utf-8"))


def main() -> int:
    """Measure all seeds and write the figure."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    parts = [part(seed) for seed in SEEDS]
    ours, theirs = ([content[arm]["minority_aupr"] for content in parts] for arm in ARMS)
    gain = mean_of([a - b for a, b in zip(ours, theirs, strict=True)])
    Figure(
        name="documents.multitask_gain",
        value=gain.value,
        unit="minority AUPR",
        command=COMMAND,
        rival="the published loss, which keeps the last of four questions of a step",
        rival_value=float(np.mean(theirs)),
        lower=gain.lower,
        upper=gain.upper,
        count=sum(content["corrected"]["rows"] for content in parts),
        seeds=SEEDS,
        note=f"{STEPS} steps of 4 questions and 16 rows each, abridged and edited passages, near cues "
        f"of whole ones scored, corrected {np.mean(ours):.3f}; "
        "both arms start from the encoder of documents.generated, with new queries and heads; Student's interval "
        "over seeds",
    ).write()
    return 0


if __name__ == "__main__":
    sys.exit(main())
