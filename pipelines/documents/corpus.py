"""A corpus: documents checked and split, with their catalogue, as `anamnesis documents prepare` leaves them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from pipelines import artefacts
from pipelines.documents import catalogue as catalogues
from pipelines.documents.catalogue import Catalogue
from pipelines.documents.passages import Rows

DOCUMENTS_FILE, CATALOGUE_FILE = "documents.parquet", "catalogue.json"
TRAIN, TUNING, HELD_OUT = "train", "dev", "test"


class Corpus(NamedTuple):
    """A corpus, opened.

    Attributes:
        path: its folder.
        manifest: of it.
        documents: DOCUMENTS, every row with its split.
        catalogue: their questions.
    """

    path: Path
    manifest: dict[str, Any]
    documents: pl.DataFrame
    catalogue: Catalogue


def open_corpus(path: Path) -> Corpus:
    """Open a corpus.

    Raises:
        ValueError: it is none, or a file has other bytes than its manifest says.
    """
    manifest = artefacts.read_manifest(path, "documents")
    artefacts.verify(path, manifest)
    return Corpus(
        path,
        manifest,
        pl.read_parquet(path / DOCUMENTS_FILE),
        catalogues.load(path / CATALOGUE_FILE),
    )


def write_catalogue(catalogue: Catalogue, folder: Path) -> None:
    """Write `catalogue.json` into a folder."""
    artefacts.write_json(folder / CATALOGUE_FILE, catalogue.content())


def rows_of(
    frame: pl.DataFrame,
    catalogue: Catalogue,
    split: str,
    *,
    data_types: Sequence[str] | None = None,
    share: float = 1.0,
    seed: int = 0,
) -> Rows:
    """Return the rows of a split that have a label.

    Args:
        frame: DOCUMENTS.
        catalogue: their questions.
        split: train, dev or test.
        data_types: kept; all where None.
        share: of the groups kept, 0 to 1; a smaller share is part of a larger one.
        seed: of which groups.
    """
    held = frame.filter((pl.col("split") == split) & pl.col("label").is_not_null())
    if data_types is not None:
        held = held.filter(pl.col("data_type").is_in(list(data_types)))
    if share < 1:
        groups = held["group_id"].unique().sort()
        order = np.random.Generator(np.random.Philox(key=seed)).permutation(len(groups))
        kept = groups[order[: max(1, round(share * len(groups)))].tolist()]
        held = held.filter(pl.col("group_id").is_in(kept.implode()))
    task = held["id"].replace_strict(catalogue.place(), return_dtype=pl.Int64).to_numpy()
    return Rows(held["text"].to_list(), task, held["label"].to_numpy())
