"""Documents of 100,000 tokens with their cues in the last 5 %, asked of the trained reader: figures `documents.long.*`.

`python -m tests.benchmarks.documents.long`; it trains nothing, `generated` does.
"""

import os
import resource
import sys

import numpy as np
import polars as pl

from pipelines.documents.predictions import places
from pipelines.documents.schema import AUGMENT_ONLY
from pipelines.documents.simulator.passages import fill
from pipelines.documents.simulator.structure import structure
from tests.benchmarks.documents.generated import cohort, probabilities, trained
from tests.benchmarks.harness import Figure, mean_of

COMMAND = "python -m tests.benchmarks.documents.long"
GROUPS, TOKENS = 4, 100_000
SEED = 907


def correct(reader, tokens, rows, truth, catalogue):
    """Return of each row whether the most probable option is the one that the passage states, bool [N]."""
    found = probabilities(reader, tokens, rows, catalogue, None)
    return found.argmax(1) == truth["stated"].to_numpy()


def padded(rows):
    """Return rows whose texts stand behind so much filler that they end a document of TOKENS tokens."""
    texts = rows["text"].unique(maintain_order=True).to_list()
    random = np.random.default_rng(SEED)
    long = {text: " ".join([*fill(random, TOKENS - text.count(" ") - 1), text]) for text in texts}
    assert all(text.count(" ") < 0.05 * TOKENS for text in texts)
    return rows.with_columns(pl.col("text").replace_strict(long))


def peak_gib():
    """Return the largest resident size of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> int:
    """Measure."""
    reader, tokens = trained(0)
    made, documents = cohort(GROUPS, SEED, abridged=0, counterfactual=0, far=0.0)
    assert not documents["data_type"].is_in(AUGMENT_ONLY).any()
    rows = documents.drop("far")
    majority = np.array([np.argmax(cue.prior) for cue in structure().cues])[places(rows, made.catalogue)]
    alone = correct(reader, tokens, rows, made.truth, made.catalogue)
    before = peak_gib()
    long = correct(reader, tokens, padded(rows), made.truth, made.catalogue)
    passages = rows["text"].to_numpy()
    change = mean_of([float(np.mean(long[passages == text])) for text in dict.fromkeys(passages)])
    shared = {"command": COMMAND, "seeds": (0, SEED), "count": len(rows)}
    Figure(
        name="documents.long.accuracy",
        value=float(long.mean()),
        unit="accuracy",
        rival="the same passages without filler",
        rival_value=float(alone.mean()),
        lower=change.lower,
        upper=change.upper,
        note=f"{rows['text'].n_unique()} documents of {TOKENS:,} tokens, cues in the last 5 %; the commonest option of "
        f"each task: {np.mean(majority == made.truth['stated'].to_numpy()):.3f}; interval over documents",
        **shared,
    ).write()
    Figure(
        name="documents.long.peak_memory_gib",
        value=peak_gib(),
        unit="GiB",
        rival="peak before the long documents",
        rival_value=before,
        note=f"resident size of the process; one document is {TOKENS:,} tokens",
        **shared,
    ).write()
    return 0


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    sys.exit(main())
