"""Compressed readers, category by category: `python -m tests.benchmarks.documents.compressed`."""

import argparse
import shutil
import sys

import numpy as np
import polars as pl

from pipelines import artefacts
from pipelines.documents import evaluation, predictions, scoring
from pipelines.documents.corpus import DOCUMENTS_FILE, write_catalogue
from pipelines.documents.exporting import export
from pipelines.documents.hooks import DynamicInt8, PrunedEncoder
from pipelines.documents.temperature import Calibration
from tests.benchmarks.documents.generated import cohort, model_of, trained, training_corpus
from tests.benchmarks.harness import RUNS, Figure

COMMAND = "python -m tests.benchmarks.documents.compressed"
SEED, GROUPS = 0, 60
VARIANTS = {"int8": DynamicInt8(), "sparsegpt50": PrunedEncoder(sparsity=0.5)}


def run_of(folder):
    """Return a run and a corpus as export takes them, of the reader of documents.generated."""
    reader, tokens = trained(SEED)
    corpus = training_corpus(SEED, 20)
    run, held = folder / "run", folder / "corpus"
    for place in (run, held):
        place.mkdir(parents=True)
        write_catalogue(corpus.catalogue, place)
    shutil.copytree(model_of(SEED) / "model", run / "model")
    tokens.save(run)
    plain = Calibration(np.ones(reader.questions), 0.0, 1.0, 1.0, 1.0)
    artefacts.write_json(run / "calibration.json", plain.to_json())
    corpus.documents.drop("far").write_parquet(held / DOCUMENTS_FILE)
    digest = corpus.catalogue.digest
    artefacts.write_manifest(held, "documents", catalogue=digest)
    artefacts.write_manifest(
        run,
        "reader",
        catalogue=digest,
        window={"length": 64, "overlap": 8},
        truncating=False,
        corpus="",
        answers=0,
        passages=0,
    )
    return run, held


def main() -> int:
    """Export each variant, score the same documents, and write the worst change of a category."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    folder = RUNS / "documents" / "compressed"
    shutil.rmtree(folder, ignore_errors=True)
    run, corpus = run_of(folder)
    made, documents = cohort(GROUPS, 10 * SEED + 3, abridged=0, counterfactual=0)
    rows = documents.filter(~pl.col("far")).drop("far")
    source = folder / "rows.parquet"
    rows.select("document_id", "group_id", "text_type", "text").write_parquet(source)
    probability, size = {}, {}
    for name, compression in {"fp32": None, **VARIANTS}.items():
        held = export(run, folder / name, corpus=corpus, compression=compression)
        scoring.opened.cache_clear()
        scoring.score(folder / name, source, folder / f"{name}-predictions", workers=1)
        found = predictions.scan(folder / f"{name}-predictions")
        probability[name] = predictions.aligned(found, rows, made.catalogue)
        size[name] = held["files"][scoring.MODEL]["bytes"]
    scores = evaluation.evaluate(rows, probability, made.catalogue, resamples=2, allow_missing_classes=True).scores
    held = scores.filter((pl.col("metric") == "minority_aupr") & pl.col("level").is_in(["all", "category"]))
    value = {(model, name): number for model, name, number in held.select("model", "name", "value").iter_rows()}
    categories = sorted({name for _, name in value if name != "all"})
    for variant in VARIANTS:
        change = {name: value[variant, name] - value["fp32", name] for name in categories}
        worst = min(change, key=change.get)
        told = ", ".join(f"{name} {number:+.4f}" for name, number in change.items())
        Figure(
            name=f"documents.compressed.{variant}.worst_category_change",
            value=change[worst],
            unit="minority AUPR",
            command=COMMAND,
            rival=f"the fp32 file, category {worst}",
            rival_value=value["fp32", worst],
            count=len(rows),
            seeds=(SEED,),
            note=f"all questions {value['fp32', 'all']:.4f} and {value[variant, 'all']:.4f}; {told}; "
            f"{size['fp32']:,} and {size[variant]:,} bytes of model.onnx",
        ).write()
    return 0


if __name__ == "__main__":
    sys.exit(main())
