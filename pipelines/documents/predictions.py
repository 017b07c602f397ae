"""Predictions of documents: one row an option, as scoring writes them and evaluation reads them."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from pipelines.documents.catalogue import Catalogue

Floats = npt.NDArray[np.float64]
EVIDENCE = pl.Struct({"start": pl.Int64, "end": pl.Int64, "weight": pl.Float32})
"""Characters from start to end of the text as given, and the attention that fell on them, 0 to 1."""
PREDICTIONS = pl.Schema(
    {
        "document_id": pl.String,
        "group_id": pl.String,
        "id": pl.String,
        "subquestion": pl.String,
        "option_index": pl.Int32,
        "option": pl.String,
        "probability": pl.Float32,
        "chosen": pl.Boolean,
        "abstain": pl.Boolean,
        "truncated": pl.Boolean,
        "evidence": pl.List(EVIDENCE),
        "model_digest": pl.String,
    }
)
"""One row a document, question and option, options of one question together and in order. `probability` sums to 1 over
the options of a question; evidence is of the question, the same for its options."""
KEY = ("document_id", "id")


def scan(path: Path) -> pl.LazyFrame:
    """Return predictions from a folder that `anamnesis documents score` left, or from one Parquet file.

    Raises:
        ValueError: no such path, no parts, or a column is missing.
    """
    if not path.exists():
        raise ValueError(f"{path}: no such file or folder; expected predictions made by anamnesis documents score")
    held = path / "predictions" if (path / "predictions").is_dir() else path
    parts = [held] if held.is_file() else sorted(held.glob("*.parquet"))
    if not parts:
        raise ValueError(f"{path}: holds no .parquet; expected predictions made by anamnesis documents score")
    frame = pl.scan_parquet(parts)
    missing = [name for name in PREDICTIONS if name not in frame.collect_schema()]
    if missing:
        raise ValueError(f"{path}: no column {', '.join(missing)}; expected those of PREDICTIONS")
    return frame


def from_matrix(
    documents: pl.DataFrame, probability: Floats, catalogue: Catalogue, model_digest: str = ""
) -> pl.DataFrame:
    """Return probabilities of rows as PREDICTIONS without evidence; nothing abstains.

    Args:
        documents: DOCUMENTS, N rows.
        probability: f64 [N, C]; what lies beyond the options of a row's task is not read.
        catalogue: the questions of all rows.
        model_digest: of what made them.
    """
    place = places(documents, catalogue)
    options = catalogue.num_options[place]
    row = np.repeat(np.arange(len(documents)), options)
    index = np.concatenate([np.arange(number) for number in options]) if len(options) else np.zeros(0, np.int64)
    best = chosen(probability, options)
    names = [catalogue.questions[place[at]].options[option] for at, option in zip(row, index, strict=True)]
    return (
        documents.select("document_id", "group_id", "id", "subquestion")[row]
        .with_columns(
            pl.Series("option_index", index),
            pl.Series("option", names, pl.String),
            pl.Series("probability", probability[row, index]),
            pl.Series("chosen", best[row] == index),
            pl.lit(value=False).alias("abstain"),
            pl.lit(value=False).alias("truncated"),
            pl.lit([], PREDICTIONS["evidence"]).alias("evidence"),
            pl.lit(model_digest).alias("model_digest"),
        )
        .select(pl.col(name).cast(kind) for name, kind in PREDICTIONS.items())
    )


def chosen(probability: Floats, options: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the likeliest option of each row, the first of equals, i64 [N]."""
    inside = np.arange(probability.shape[1]) < options[:, None]
    return np.where(inside, probability, -np.inf).argmax(1)


def places(documents: pl.DataFrame, catalogue: Catalogue) -> npt.NDArray[np.int64]:
    """Return the place of each row's task in the catalogue, i64 [N].

    Raises:
        ValueError: a task is not in the catalogue.
    """
    found = documents["id"].replace_strict(catalogue.place(), default=None, return_dtype=pl.Int64)
    if found.null_count():
        task = documents.filter(found.is_null())["id"][0]
        raise ValueError(f"task {task} is not in the catalogue; expected the catalogue that the model was made with")
    return found.to_numpy()


def aligned(predictions: pl.LazyFrame, documents: pl.DataFrame, catalogue: Catalogue) -> Floats:
    """Return the probabilities of each row of documents, f64 [N, C], 0 beyond the options of its task.

    Args:
        predictions: PREDICTIONS, in any order.
        documents: DOCUMENTS, N rows.
        catalogue: the questions of all rows.

    Raises:
        ValueError: a row has no prediction, or several, or not one for each option.
    """
    options = catalogue.num_options[places(documents, catalogue)]
    held = (
        predictions.select(*KEY, "option_index", "probability")
        .sort(*KEY, "option_index")
        .group_by(*KEY, maintain_order=True)
        .agg("option_index", "probability")
        .collect()
    )
    rows = documents.select(*KEY).join(held, on=list(KEY), how="left", maintain_order="left")
    lost = int(rows["probability"].null_count())
    if lost:
        raise ValueError(f"{lost:,} of {len(rows):,} rows have no prediction; score the same documents again")
    width = int(catalogue.num_options.max())
    found = np.zeros((len(rows), width))
    for at, (index, probability) in enumerate(rows.select("option_index", "probability").iter_rows()):
        if index != list(range(options[at])):
            raise ValueError(
                f"task {documents['id'][at]}: predictions of {len(index)} options; expected each of {options[at]} once"
            )
        found[at, : options[at]] = probability
    if not np.isfinite(found).all():
        raise ValueError("a probability is no number; the predictions are damaged, score again")
    return found


def evidence(predictions: pl.DataFrame) -> Mapping[tuple[str, str], list[tuple[int, int, float]]]:
    """Return start, end and weight of the evidence by document and task."""
    first = predictions.filter(pl.col("option_index") == 0).select(*KEY, "evidence")
    return {
        (document, task): [(piece["start"], piece["end"], piece["weight"]) for piece in pieces or []]
        for document, task, pieces in first.iter_rows()
    }
