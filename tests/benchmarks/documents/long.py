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
from tests.benchmarks.harness import Figure

COMMAND = "python -m tests.benchmarks.documents.long"
GROUPS, TOKENS = 4, 100_000
SEED, RESAMPLES = 907, 2000


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


def difference(ours, theirs, document):
    """Return the 95 % interval of the difference of two accuracies; documents are drawn with all of their rows.

    Args:
        ours: which rows are right, bool [N].
        theirs: bool [N].
        document: text of each row.
    """
    _, place = np.unique(document, return_inverse=True)
    rows = np.bincount(place)
    gain = np.bincount(place, ours.astype(float) - theirs)
    times = np.random.default_rng(SEED).multinomial(len(rows), np.full(len(rows), 1 / len(rows)), RESAMPLES)
    return np.percentile((times @ gain) / (times @ rows), [2.5, 97.5]).tolist()


def main() -> int:
    """Measure."""
    reader, tokens = trained(0)
    made, documents = cohort(GROUPS, SEED, abridged=0, counterfactual=0, far=0.0)
    assert not documents["data_type"].is_in(AUGMENT_ONLY).any()
    rows = documents.drop("far")
    commonest = np.array([np.argmax(cue.prior) for cue in structure().cues])[places(rows, made.catalogue)]
    majority = commonest == made.truth["stated"].to_numpy()
    alone = correct(reader, tokens, rows, made.truth, made.catalogue)
    before = peak_gib()
    long = correct(reader, tokens, padded(rows), made.truth, made.catalogue)
    passages = rows["text"].to_numpy()
    shared = {"command": COMMAND, "seeds": (0, SEED), "count": len(rows)}
    told = f"{rows['text'].n_unique()} documents of {TOKENS:,} tokens, cues in the last 5 %; documents are resampled"
    against = {"accuracy": ("the same passages without filler", alone)}
    against["over_majority_gain"] = ("the commonest option of each task", majority)
    for name, (rival, right) in against.items():
        lower, upper = difference(long, right, passages)
        gain = name.endswith("_gain")
        Figure(
            name=f"documents.long.{name}",
            value=float(long.mean() - right.mean()) if gain else float(long.mean()),
            unit="accuracy",
            rival=rival,
            rival_value=float(right.mean()),
            lower=lower,
            upper=upper,
            note=told if gain else f"{told}; the interval is that of the difference",
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
