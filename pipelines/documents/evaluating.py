"""`anamnesis documents evaluate`, `learning-curve` and `ablation`: scores beside baselines, on one split."""

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from rich.console import Console
from rich.table import Table

from pipelines import artefacts
from pipelines.documents import baselines, evaluation, predictions, report, schema, scoring, temperature
from pipelines.documents.corpus import HELD_OUT, TRAIN, TUNING, Corpus, open_corpus
from pipelines.progress import say

EXAMPLES = """examples:
  anamnesis documents evaluate run/ corpus/ report/
  anamnesis documents evaluate release/ corpus/ report/ --allow-missing-classes
  anamnesis documents learning-curve --config configs/documents/generated.yaml --corpus corpus/ --output curve/
  anamnesis documents ablation --config configs/documents/maud.yaml --corpus corpus/ --output ablation/
"""
SHARES = (1.0, 0.5, 0.25, 0.1, 0.05)
"""Shares of the training groups in a learning curve."""
KEPT: dict[str, list[str] | None] = {
    "all": None,
    "no-abridged": ["main", "rare_answers", "augmented", "synthetic"],
    "no-rare-answers": ["main", "abridged", "augmented", "synthetic"],
    "main": ["main"],
}
"""Training rows kept in each arm of an ablation, by data_type."""
TRUNCATED = 512
"""Tokens that a truncating reader sees."""
Floats = npt.NDArray[np.float64]


def rows_to_score(corpus: Corpus, split: str) -> pl.DataFrame:
    """Return the labelled rows of a split that are scored: never augmented ones.

    Raises:
        ValueError: there is none.
    """
    rows = corpus.documents.filter(
        (pl.col("split") == split)
        & pl.col("label").is_not_null()
        & ~pl.col("data_type").is_in(list(schema.AUGMENT_ONLY))
    )
    if not len(rows):
        raise ValueError(f"{corpus.path}: no labelled rows in split {split}; expected {HELD_OUT} or {TUNING}")
    return rows


def of_run(run: Path, corpus: Corpus, rows: pl.DataFrame) -> dict[str, Floats]:
    """Return the probabilities of a run in torch, whole and with what stands behind token 512 left out, f64 [N, C].

    Raises:
        ValueError: it is no run, or knows another catalogue.
    """
    from pipelines.documents import training
    from pipelines.documents.batches import Collator
    from pipelines.documents.chunks import Window
    from pipelines.documents.model import load
    from pipelines.documents.passages import Rows, gather
    from pipelines.documents.reading import answers
    from pipelines.documents.tokens import Tokens

    held = artefacts.read_manifest(run, "reader")
    artefacts.verify(run, held)
    known(held, corpus, run)
    tokens, reader = Tokens.load(run), load(run / "model")
    options = corpus.catalogue.num_options.tolist()
    words = training.words_of(corpus.catalogue, tokens) if reader.settings.head == "description" else None
    place = predictions.places(rows, corpus.catalogue)
    passages = gather(Rows(rows["text"].to_list(), place, rows["label"].to_numpy()), tokens)
    calibration = temperature.from_json(json.loads((run / scoring.CALIBRATION).read_text(encoding="utf-8")))
    special = len(tokens.first) + len(tokens.last)
    made: dict[str, Floats] = {}
    for name, cap in (("reader", None), ("truncated at 512", windows_of(held["window"], TRUNCATED, special))):
        window = Window(**held["window"], max_chunks=1 if held["truncating"] else cap)
        found = answers(reader, Collator(passages, tokens, window, options, words))
        made[name] = temperature.probabilities(found.logits, calibration.temperature[place])
    return made


def windows_of(window: Mapping[str, int], tokens: int, special: int) -> int:
    """Return how many windows fit into so many tokens, one at least."""
    content = window["length"] - special
    return 1 + max(0, (tokens - content) // (content - window["overlap"]))


def of_release(release: Path, corpus: Corpus, rows: pl.DataFrame) -> tuple[dict[str, Floats], pl.DataFrame]:
    """Return the probabilities of a release as scoring gives them, f64 [N, C], and its predictions with evidence."""
    known(artefacts.read_manifest(release, "document_release"), corpus, release)
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "rows.parquet", Path(folder) / "predictions"
        rows.select("document_id", "group_id", "text_type", "text").write_parquet(source)
        scoring.score(release, source, target, workers=1)
        held = predictions.scan(target)
        return {"reader": predictions.aligned(held, rows, corpus.catalogue)}, held.collect()


def known(manifest: Mapping[str, Any], corpus: Corpus, path: Path) -> None:
    """Refuse a reader of other questions.

    Raises:
        ValueError: the catalogues differ.
    """
    if manifest["catalogue"] != corpus.catalogue.digest:
        raise ValueError(f"{path}: was made with another catalogue than {corpus.path}; give the corpus it belongs to")


def rivals(corpus: Corpus, rows: pl.DataFrame) -> dict[str, Floats]:
    """Return the probabilities of the baselines, f64 [N, C]: majority, random, bag of words."""
    labelled = corpus.documents.filter(pl.col("label").is_not_null())
    train, tuning = (labelled.filter(pl.col("split") == split) for split in (TRAIN, TUNING))
    return {
        "bag of words": baselines.bag_of_words(train, tuning, rows, corpus.catalogue),
        "majority": baselines.majority(train, rows, corpus.catalogue),
        "random": baselines.random(rows, corpus.catalogue),
    }


def evaluate(
    model: Path,
    corpus: Corpus,
    target: Path,
    *,
    split: str = HELD_OUT,
    resamples: int = 1000,
    seed: int = 0,
    allow_missing_classes: bool = False,
    overwrite: bool = False,
) -> pl.DataFrame:
    """Score a run or a release beside the baselines, write the report's folder, and return SCORES.

    Raises:
        ValueError: bad input; nothing is left behind.
    """
    artefacts.refuse_existing(target, overwrite=overwrite)
    rows = rows_to_score(corpus, split)
    kind, digest = artefacts.kind_of(model), artefacts.digest(model / artefacts.MANIFEST)
    if kind == "reader":
        probability = of_run(model, corpus, rows)
        made = predictions.from_matrix(rows, probability["reader"], corpus.catalogue, digest)
    else:
        probability, made = of_release(model, corpus, rows)
    probability |= rivals(corpus, rows)
    found = evaluation.evaluate(
        rows,
        probability,
        corpus.catalogue,
        resamples=resamples,
        seed=seed,
        allow_missing_classes=allow_missing_classes,
    )
    with artefacts.build(target, overwrite=overwrite) as folder:
        found.scores.write_parquet(folder / "scores.parquet")
        artefacts.write_bytes(folder / "scores.csv", found.scores.write_csv().encode())
        made.write_parquet(folder / "predictions.parquet")
        told = page(found, rows, made, corpus, {"Model": digest[:12], "Split": split}, evidence=kind != "reader")
        artefacts.write_bytes(folder / "report.html", told.encode())
        artefacts.write_manifest(
            folder,
            "document_report",
            model=digest,
            corpus=artefacts.digest(corpus.path / artefacts.MANIFEST),
            split=split,
            resamples=resamples,
            seed=seed,
            skipped=[list(part) for part in found.skipped],
        )
    if found.skipped:
        say(f"note: tasks without minority AUPR, since an option has no row in split {split}: {len(found.skipped)}")
    return found.scores


def page(
    found: evaluation.Evaluation,
    rows: pl.DataFrame,
    made: pl.DataFrame,
    corpus: Corpus,
    facts: Mapping[str, str],
    *,
    evidence: bool,
) -> str:
    """Return the report as HTML, with some passages and where the reader looked."""
    notes: list[str] = []
    if corpus.manifest["split"] == "official":
        notes.append(
            "The split is the published one: leaky, since every contract stands on each side for some question."
        )
    if found.skipped:
        notes.append(f"Tasks without minority AUPR, since an option has no row here: {len(found.skipped)}.")
    if not evidence:
        notes.append("This is a run: export it and evaluate the release to see where it looked.")
    counted = {"Rows": f"{len(rows):,}", "Groups": f"{rows['group_id'].n_unique():,}"}
    if best := corpus.manifest.get("bayes_aupr"):
        counted["Bayes AUPR"] = f"{best:.3f}"
    return report.render(
        report.Content(
            "Questions over documents",
            [*facts.items(), *counted.items(), ("Questions", f"{len(set(corpus.catalogue.parents)):,}")],
            notes,
            found.scores,
            report.passages(rows, made, corpus.catalogue),
        )
    )


def show(scores: pl.DataFrame) -> None:
    """Print the models beside each other, main and abridged apart, then the categories."""
    console = Console(width=120)
    for data_type in scores["data_type"].unique(maintain_order=True):
        table = Table(title=f"Rows {data_type}, 95 % intervals by group")
        for name in ("model", "minority AUPR", "over tasks", "balanced accuracy", "macro F1", "accuracy", "ECE"):
            table.add_column(name, justify="left" if name == "model" else "right")
        here = scores.filter((pl.col("data_type") == data_type) & (pl.col("level") == "all"))
        for model in here["model"].unique(maintain_order=True):
            own = {row["metric"]: row for row in here.filter(pl.col("model") == model).iter_rows(named=True)}
            names = ("minority_aupr", "minority_aupr_tasks", "balanced_accuracy", "macro_f1", "accuracy", "ece")
            table.add_row(model, *(cell(own.get(name)) for name in names))
        console.print(table)
    ours = scores["model"][0]
    table = Table(title=f"Minority AUPR by category, rows main, {ours}")
    for name in ("category", "minority AUPR", "tasks", "rows"):
        table.add_column(name)
    held = scores.filter(
        (pl.col("level") == "category")
        & (pl.col("data_type") == "main")
        & (pl.col("metric") == "minority_aupr")
        & (pl.col("model") == ours)
    )
    for row in held.iter_rows(named=True):
        table.add_row(row["name"], cell(row), f"{row['tasks']}", f"{row['rows']:,}")
    console.print(table)


def cell(row: Mapping[str, Any] | None) -> str:
    """Return a value with its interval."""
    if row is None or row["value"] is None:
        return "-"
    inside = "" if row["lower"] is None else f" ({row['lower']:.3f}-{row['upper']:.3f})"
    return f"{row['value']:.3f}{inside}"


def arms(given: argparse.Namespace, rest: Sequence[str], made: Mapping[str, Sequence[str]]) -> int:
    """Train and evaluate a reader an arm, and write the arms' scores as one table; what is done is not done again.

    Args:
        given: config, corpus, output and allow_missing_classes.
        rest: settings for all arms.
        made: settings of each arm, by its name.
    """
    from pipelines.documents.training import train

    corpus = open_corpus(given.corpus)
    parts: list[pl.DataFrame] = []
    for name, settings in made.items():
        run, report = given.output / name / "run", given.output / name / "report"
        options = {"overwrite": False, "every": 100, "patience": 5, "target": 0.9, "label": f"train {name}"}
        if not (run / artefacts.MANIFEST).is_file() and (
            code := train(given.config, [*rest, *settings], corpus, run, **options)
        ):
            return code
        if not (report / artefacts.MANIFEST).is_file():
            evaluate(run, corpus, report, allow_missing_classes=given.allow_missing_classes)
        parts.append(pl.read_parquet(report / "scores.parquet").insert_column(0, pl.lit(name).alias("arm")))
    scores = pl.concat(parts)
    artefacts.write_bytes(given.output / "scores.csv", scores.write_csv().encode())
    table = Table(title=f"{given.output.name}: minority AUPR over questions, rows main")
    for name in ("arm", "reader", "bag of words", "majority"):
        table.add_column(name)
    headline = scores.filter(
        (pl.col("level") == "all") & (pl.col("data_type") == "main") & (pl.col("metric") == "minority_aupr")
    )
    for arm in made:
        own = {row["model"]: row for row in headline.filter(pl.col("arm") == arm).iter_rows(named=True)}
        table.add_row(arm, *(cell(own.get(name)) for name in ("reader", "bag of words", "majority")))
    Console(width=120).print(table)
    return 0


def arms_parser(command: str, description: str) -> argparse.ArgumentParser:
    """Return the arguments of learning-curve and ablation; what they do not know goes to training."""
    made = argparse.ArgumentParser(
        f"anamnesis documents {command}",
        description=description,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument("--config", type=Path, required=True, help="settings of training")
    made.add_argument("--corpus", type=Path, required=True, help="what anamnesis documents prepare made")
    made.add_argument("--output", type=Path, required=True, help="folder of the arms")
    made.add_argument("--allow-missing-classes", action="store_true", help="leave out tasks that lack an option")
    return made


def curve(argv: Sequence[str]) -> int:
    """Train on 100, 50, 25, 10 and 5 % of the training groups; the bag of words learns from all of them."""
    given, rest = arms_parser("learning-curve", f"{curve.__doc__}").parse_known_args(argv)
    return arms(given, rest, {f"share-{round(100 * share):03d}": ["--data.share", f"{share}"] for share in SHARES})


def ablate(argv: Sequence[str]) -> int:
    """Train with and without abridged passages and edited passages with rare answers."""
    given, rest = arms_parser("ablation", f"{ablate.__doc__}").parse_known_args(argv)
    settings = {name: [] if kept is None else ["--data.data_types", json.dumps(kept)] for name, kept in KEPT.items()}
    return arms(given, rest, settings)


def main(argv: Sequence[str]) -> int:
    """Evaluate a run or a release."""
    made = argparse.ArgumentParser(
        "anamnesis documents evaluate",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("model", type=Path, help="run of documents train, or release of documents export")
    made.add_argument("corpus", type=Path, help="what anamnesis documents prepare made")
    made.add_argument("report", type=Path, help="folder to be made")
    made.add_argument("--split", choices=(HELD_OUT, TUNING), default=HELD_OUT, help=f"(default: {HELD_OUT})")
    made.add_argument("--resamples", type=int, default=1000, help="of groups, for intervals (default: 1000)")
    made.add_argument("--seed", type=int, default=0, help="of the resamples (default: 0)")
    made.add_argument("--allow-missing-classes", action="store_true", help="leave out tasks that lack an option")
    made.add_argument("--overwrite", action="store_true", help="replace a report that stands there")
    given = vars(made.parse_args(argv))
    corpus = open_corpus(given.pop("corpus"))
    target = given.pop("report")
    show(evaluate(given.pop("model"), corpus, target, **given))
    say(f"wrote {target}")
    return 0
