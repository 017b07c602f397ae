"""A trained reader and its release, made once."""

from typing import NamedTuple

import polars as pl
import pytest

from pipelines.documents.cli import main
from pipelines.documents.simulator.cohort import Corpus, simulate

CONFIG = """seed_everything: 1
model:
  encoder_config: {model_type: bert, hidden_size: 16, num_hidden_layers: 1, num_attention_heads: 2,
    intermediate_size: 16, max_position_embeddings: 64}
  reader: {key_width: 8}
  optimizer: {encoder_rate: 3.0e-3, head_rate: 3.0e-3}
data:
  window: {length: 64, overlap: 16, max_chunks: 4}
  sampling: {positions: 4096}
trainer: {max_epochs: 2, accelerator: cpu}
"""


class Chain(NamedTuple):
    """What each command left, in order."""

    documents: object
    config: object
    corpus: object
    run: object
    release: object


@pytest.fixture(scope="session")
def reading(tmp_path_factory):
    """Return what prepare, train and export make of a small generated corpus."""
    folder = tmp_path_factory.mktemp("reading")
    made = Chain(*(folder / name for name in ("documents.parquet", "train.yaml", "corpus", "run", "release")))
    cohort = simulate(Corpus(groups=24, length=0.05, cut="small"))
    cohort.documents.with_columns(pl.col("split").cast(pl.String)).write_parquet(made.documents)
    (folder / "catalogue.json").write_text(__import__("json").dumps(cohort.catalogue.content()))
    made.config.write_text(CONFIG)
    words = [made.documents, made.corpus, "--catalogue", folder / "catalogue.json", "--allow-missing-classes"]
    assert main(["prepare", *map(str, words)]) == 0
    assert main(["train", "--config", str(made.config), "--corpus", str(made.corpus), "--output", str(made.run)]) == 0
    assert main(["export", str(made.run), str(made.release)]) == 0
    return made
