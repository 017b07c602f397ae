"""Records as rows of next tokens: what the generating objectives learn from.  NumPy only.

To the network each token is a visit of its own here, so that visit-causal attention is attention to what was emitted
before, and a query at a visit's age reads the history and the codes of that visit that are already there.
"""

import numpy as np

from ehr.batches import generator
from ehr.corruption import Asked, Ints
from ehr.grammar import IMPOSSIBLE, OPENS, Grammar, time_bin
from ehr.timelines import Sample

GENERATING = ("permuted_ce", "ordered_ce")
"""Objectives that ask for codes one by one."""
REST = 16
"""Remaining codes of a visit that one query is asked for, at most: the next ones in an order drawn at random."""
ORDER = 2


def unroll(sample: Sample, rules: Grammar, *, seed: int, epoch: int, ordered: bool) -> tuple[Sample, Asked]:
    """Ask for the rest of each visit after each of its codes, and for the gap to the next visit after its last.

    Args:
        sample: statics (visit 0) first, then visits in order.
        rules: the grammar; tokens that it calls impossible are read, but not asked for.
        seed: of the run.
        epoch: number of the pass.
        ordered: ask for the next code in the order of the record alone (ordered cross-entropy, the control); else
            codes stand in an order drawn anew in each epoch, and those that are left are asked for with equal
            weights: -mean over y in Y without S of log p(y | S).

    Returns:
        The sample as the model reads it, and what is asked; ids from V on are time tokens.
    """
    dated = sample.visit > 0
    order = np.arange(len(sample.token), dtype=np.float64)
    if not ordered:
        draw = generator(seed, epoch, sample.subject, sample.prediction_time + ORDER).random(len(order))
        draw[rules.kind[sample.token] == OPENS] = -1.0
        order[dated] = draw[dated]
    place = np.lexsort((order, sample.visit))
    token = sample.token[place].astype(np.int64)
    starts = np.flatnonzero(np.diff(sample.visit, prepend=0) != 0)
    ends = np.append(starts[1:], len(token))[: len(starts)]
    opening = sample.age_days[starts]
    age = sample.age_days.copy()
    age[dated] = np.repeat(opening, ends - starts)
    gaps = time_bin(np.diff(opening)) + len(rules.kind)

    bound: list[int] = []
    ages: list[float] = []
    targets: list[Ints] = []
    for number, (begin, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
        for at in range(begin, end):
            alone = ordered or (at == begin and rules.kind[token[at]] == OPENS)
            rest = token[at : at + 1 if alone else min(end, at + REST)]
            rest = rest[rules.kind[rest] != IMPOSSIBLE]
            if len(rest):
                bound.append(at + 1)
                ages.append(float(opening[number]))
                targets.append(rest)
        # The gap after the last visit is not known: nothing is asked.
        if number < len(gaps):
            bound.append(end + 1)
            ages.append(float(opening[number]))
            targets.append(gaps[number : number + 1])
    position = np.arange(1, len(token) + 1, dtype=np.int32)
    read = sample._replace(
        token=token.astype(np.int32), visit=np.where(dated, position, 0).astype(np.int32), age_days=age
    )
    sizes = [len(rest) for rest in targets]
    return read, Asked(
        np.array(bound, dtype=np.int32),
        np.array(ages, dtype=np.float32),
        np.zeros(len(bound), dtype=np.int64),
        np.repeat(np.arange(len(bound), dtype=np.int64), sizes),
        np.concatenate([*targets, np.zeros(0, dtype=np.int64)]),
        np.ones(sum(sizes), dtype=np.float32),
    )
