"""A small reader on the generated corpus, beside what is possible: `python -m tests.benchmarks.documents.generated`."""

import argparse
import json
import os
import sys
from pathlib import Path

import numpy as np
import polars as pl

from pipelines.documents import baselines, evaluation, temperature, training
from pipelines.documents.batches import Collator
from pipelines.documents.chunks import Window
from pipelines.documents.corpus import Corpus as Held
from pipelines.documents.evaluating import windows_of
from pipelines.documents.model import load, save
from pipelines.documents.passages import Rows, gather
from pipelines.documents.predictions import places
from pipelines.documents.reading import answers
from pipelines.documents.schema import AUGMENT_ONLY
from pipelines.documents.simulator import bayes
from pipelines.documents.simulator.cohort import Corpus, simulate
from pipelines.documents.simulator.structure import structure
from tests.benchmarks.harness import FIGURES, ROOT, RUNS, Figure, mean_of

COMMAND = "python -m tests.benchmarks.documents.generated"
CONFIG = ROOT / "configs" / "documents" / "generated.yaml"
PARTS = FIGURES / "parts"
SEEDS = (0, 1)
LENGTH, NOISE = 0.05, 0.02
TRAIN, TUNING, TEST = 600, 20, 150
LONGEST = 400
"""Words of a training passage at most: the others cost most, and a window knows nothing of where it stands."""
RESAMPLES = 500


def cohort(groups, seed, **settings):
    """Return a cohort's documents with what is true of them, and its catalogue."""
    made = simulate(Corpus(groups=groups, seed=seed, length=LENGTH, noise=NOISE, **settings))
    return made, made.documents.with_columns(made.truth["far"])


def short(frame):
    """Return the rows of passages that training reads."""
    return frame.filter(pl.col("text").str.count_matches(" ") < LONGEST)


def training_corpus(seed, groups=TRAIN):
    """Return documents to train on and to stop by, none of them among those that are scored."""
    made, train = cohort(groups, 10 * seed + 1)
    _, tuning = cohort(TUNING, 10 * seed + 2)
    tuning = short(tuning.filter(~pl.col("data_type").is_in(AUGMENT_ONLY)))
    train = short(train).with_columns(pl.lit("train").alias("split"))
    both = pl.concat([train, tuning.with_columns(pl.lit("dev").alias("split"))])
    return Held(Path(), {}, both, made.catalogue)


def model_of(seed):
    """Return where a seed's reader stands."""
    return RUNS / "documents" / f"generated-{seed}"


def trained(seed):
    """Return the reader of a seed and its tokenizer, trained where it does not stand there yet."""
    folder = model_of(seed)
    if not (folder / "model" / "model.safetensors").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        corpus = training_corpus(seed)
        made = training.settings(CONFIG, ["--seed_everything", str(seed)])
        tokens = training.build(made, corpus)
        training.fit(made, folder, every=200, patience=0, label=f"train {seed}")
        tokens.save(folder)
        save(made.module.network, folder / "model")
    return load(folder / "model"), training.Tokens.load(folder)


def probabilities(reader, tokens, rows, catalogue, chunks):
    """Return the reader's probabilities, whole or of so many windows, f64 [N, C]."""
    place = places(rows, catalogue)
    window = Window(length=64, overlap=8, max_chunks=chunks)
    passages = gather(Rows(rows["text"].to_list(), place, rows["label"].to_numpy()), tokens)
    found = answers(reader, Collator(passages, tokens, window, catalogue.num_options.tolist()))
    return temperature.probabilities(found.logits, np.ones(len(rows)))


def part(seed):
    """Measure one seed: minority AUPR on far and near cues, of all readers, and paired differences."""
    reader, tokens = trained(seed)
    made, documents = cohort(TEST, 10 * seed + 3, abridged=0, counterfactual=0)
    oracle = bayes.oracle(made, structure(), NOISE)
    train = training_corpus(seed)
    learnt = train.documents.filter(pl.col("split") == "train").drop("far")
    dev = train.documents.filter(pl.col("split") == "dev").drop("far")
    truncated = windows_of({"length": 64, "overlap": 8}, 512, 2)
    content = {"seed": seed, "bayes_exact": bayes.headline(structure(), NOISE)}
    for name, is_far in (("far", True), ("near", False)):
        at = np.flatnonzero(documents["far"].to_numpy() == is_far)
        rows = documents[at.tolist()].drop("far")
        models = {
            "reader": probabilities(reader, tokens, rows, made.catalogue, None),
            "truncated": probabilities(reader, tokens, rows, made.catalogue, truncated),
            "words": baselines.bag_of_words(learnt, dev, rows, made.catalogue),
            "majority": baselines.majority(learnt, rows, made.catalogue),
            "bayes": oracle[at],
        }
        scores = evaluation.evaluate(
            rows, models, made.catalogue, resamples=RESAMPLES, seed=seed, allow_missing_classes=True
        ).scores.filter((pl.col("level") == "all") & (pl.col("data_type") == "main"))
        content[name] = {
            "rows": len(rows),
            "tasks": int(scores["tasks"][0]),
            **{
                f"{model}.{metric}": [value, lower, upper]
                for model, metric, value, lower, upper in scores.select(
                    "model", "metric", "value", "lower", "upper"
                ).iter_rows()
            },
        }
    PARTS.mkdir(parents=True, exist_ok=True)
    (PARTS / f"documents.generated-{seed}.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return content


def held(seed):
    """Return the part of a seed, measured where it does not stand there yet."""
    path = PARTS / f"documents.generated-{seed}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else part(seed)


def figures(parts):
    """Write the figures of all seeds."""
    seeds = tuple(content["seed"] for content in parts)
    far = [content["far"] for content in parts]
    near = [content["near"] for content in parts]
    value = {name: [content[f"{name}.minority_aupr"][0] for content in far] for name in ("reader", "bayes")}
    ratio = mean_of([ours / best for ours, best in zip(value["reader"], value["bayes"], strict=True)])
    beside = np.mean([content["reader.minority_aupr"][0] / content["bayes.minority_aupr"][0] for content in near])
    chance = np.mean([content["reader.chance"][0] for content in far])
    shared = {"command": COMMAND, "seeds": seeds, "count": sum(content["rows"] for content in far)}
    Figure(
        name="documents.generated.bayes_ratio",
        value=ratio.value,
        unit="ratio",
        rival="the best any reader can reach on the same rows",
        rival_value=float(np.mean(value["bayes"])),
        lower=ratio.lower,
        upper=ratio.upper,
        note=(
            f"minority AUPR over {far[0]['tasks']} of 144 tasks whose options all have rows, far cues; reader "
            f"{np.mean(value['reader']):.3f}, chance {chance:.3f}, near cues {beside:.3f} of Bayes; endless rows and "
            f"all tasks: Bayes {parts[0]['bayes_exact']:.3f}. Trained on {TRAIN} groups, passages up to {LONGEST} words"
        ),
        **shared,
    ).write()
    for name, rival, words in (
        ("over_bag_of_words_gain", "words", "TF-IDF and logistic regression a task"),
        ("over_truncating_gain", "truncated", "the same reader up to token 512"),
    ):
        rows = [content[f"reader.minority_aupr_over_{rival}"] for content in far]
        Figure(
            name=f"documents.generated.{name}",
            value=float(np.mean([row[0] for row in rows])),
            unit="minority AUPR",
            rival=words,
            rival_value=float(np.mean([content[f"{rival}.minority_aupr"][0] for content in far])),
            lower=float(np.mean([row[1] for row in rows])),
            upper=float(np.mean([row[2] for row in rows])),
            note=f"far cues; {RESAMPLES} resamples of groups within a seed, then the mean over seeds; "
            f"majority {np.mean([content['majority.minority_aupr'][0] for content in far]):.3f}",
            **shared,
        ).write()


def main() -> int:
    """Measure what is missing, each seed in an interpreter of its own so that memory is given back."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, action="append", help="these alone; the figures are those of all parts")
    given = parser.parse_args()
    parts = [held(seed) for seed in given.seed or SEEDS]
    if given.seed:
        found = [PARTS / f"documents.generated-{seed}.json" for seed in SEEDS]
        parts = [json.loads(path.read_text(encoding="utf-8")) for path in found if path.is_file()]
    figures(parts)
    return 0


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    sys.exit(main())
