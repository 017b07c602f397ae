"""Edits of codes that nobody would notice: what may stand in a record in place of what stands there.  NumPy only.

Barred are encounter marks, statics, codes that define an outcome asked about, and codes that the patient's sex or age
rules out. Nothing behind the prediction time is in a sample, so no label window is touched.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ehr.codes import match
from ehr.shifts.codebook import category_of
from ehr.timelines import Sample
from ehr.vocabulary import MASK, Vocabulary

REPLACE, DELETE, INSERT = 0, 1, 2
SIBLING, PARENT, EQUIVALENT, REMOVED, COPIED = 2.0, 1.0, 1.0, 2.0, 1.0
"""Steps between the old code and the new one in the tree of codes; a removed code is as far as a sibling."""
SHARE = 0.1
"""Of a record's codes that may be edited."""
FEMALE = ("ICD10CM//O", "ICD10CM//N80", "ICD10CM//N9[2-7]", "ICD10CM//C5[1-8]", "ICD9CM//6[3-7]", "ICD9CM//V22")
MALE = ("ICD10CM//N4[0-9]", "ICD10CM//C6[0-3]", "ICD9CM//60[0-8]", "ICD9CM//185", "ICD9CM//186")
BIRTHING_YEARS = (12, 55)
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


class Rules(NamedTuple):
    """What may be put in place of each token.

    Attributes:
        others: of each token id, tokens and their distance.
        barred: tokens that are neither edited nor put anywhere, bool [V].
        mark: encounter marks, bool [V].
        female: codes of women alone, bool [V].
        male: codes of men alone, bool [V].
        birth: codes of pregnancy and birth, bool [V].
        woman: tokens that state a woman, bool [V].
        man: tokens that state a man, bool [V].
    """

    others: Sequence[tuple[Ints, npt.NDArray[np.float64]]]
    barred: Bools
    mark: Bools
    female: Bools
    male: Bools
    birth: Bools
    woman: Bools
    man: Bools

    def allowed(self, sample: Sample) -> Bools:
        """Return which tokens a patient of this sex and age may have, bool [V]."""
        token, years = sample.token, sample.query_age_days / 365.25
        held = ~self.barred & ~self.mark
        if self.man[token].any():
            held &= ~self.female
        if self.woman[token].any():
            held &= ~self.male
        if not BIRTHING_YEARS[0] <= years <= BIRTHING_YEARS[1]:
            held &= ~self.birth
        return held


class Candidates(NamedTuple):
    """M edits that may be made to B samples.

    Attributes:
        example: which sample, i64 [M].
        position: of the token that is replaced or deleted; before which something is inserted, i64 [M].
        kind: REPLACE, DELETE or INSERT, i64 [M].
        token: what is put there, i64 [M].
        distance: in the tree of codes, f64 [M].
    """

    example: Ints
    position: Ints
    kind: Ints
    token: Ints
    distance: npt.NDArray[np.float64]


def rules(vocabulary: Vocabulary, outcomes: Sequence[str], equivalents: Mapping[str, str] | None = None) -> Rules:
    """Return the rules of a vocabulary.

    Args:
        vocabulary: what a model reads.
        outcomes: patterns of codes that define outcomes.
        equivalents: codes that stand for each other in two code systems.
    """
    codes = vocabulary.codes
    category = [category_of(code) for code in codes]
    family: dict[str, list[int]] = {}
    for at, above in enumerate(category):
        if above is not None:
            family.setdefault(above, []).append(at)
    found: list[tuple[Ints, npt.NDArray[np.float64]]] = []
    for at, (code, above) in enumerate(zip(codes, category, strict=True)):
        own: dict[int, float] = {}
        if above is not None:
            parent = vocabulary.index.get(above, at)
            own = {other: PARENT if other == parent else SIBLING for other in family[above] if other != at}
        same = vocabulary.index.get((equivalents or {}).get(code, ""))
        if same is not None and same != at:
            own[same] = EQUIVALENT
        found.append((np.array([*own], dtype=np.int64), np.array([*own.values()], dtype=np.float64)))

    def those(*patterns: str) -> Bools:
        return np.array(match(codes, tuple(bracketed(patterns))), dtype=bool)

    barred = those(*outcomes)
    barred[: MASK + 1] = True
    birth = those("ICD10CM//O", "ICD9CM//6[3-7]", "ICD9CM//V22")
    women, men = those("SEX//F", "SEX//FEMALE"), those("SEX//M", "SEX//MALE")
    return Rules(found, barred, those("VISIT//*"), those(*FEMALE), those(*MALE), birth, women, men)


def bracketed(patterns: Sequence[str]) -> list[str]:
    """Return patterns with a range of digits written out."""
    found: list[str] = []
    for pattern in patterns:
        head, opening, rest = pattern.partition("[")
        span, _, tail = rest.partition("]")
        digits = range(int(span[0]), int(span[-1]) + 1) if opening else ()
        found += [f"{head}{digit}{tail}" for digit in digits] or [pattern]
    return found


def candidates(samples: Sequence[Sample], known: Rules) -> Candidates:
    """Return all edits of samples.

    A code of a dated event may give way to a sibling, its parent or an equivalent, or be deleted; and what stood in the
    visit before and no longer stands in the last one may be copied there.
    """
    parts: list[tuple[Ints, ...]] = []
    distance: list[npt.NDArray[np.float64]] = []
    for example, sample in enumerate(samples):
        allowed = known.allowed(sample)
        token = sample.token.astype(np.int64)
        free = np.flatnonzero((sample.visit > 0) & allowed[token])
        position, kind, put, steps = (
            [free],
            [np.full(len(free), DELETE)],
            [np.zeros_like(free)],
            [np.full(len(free), REMOVED)],
        )
        for at in free.tolist():
            others, far = known.others[token[at]]
            kept = allowed[others]
            position.append(np.full(int(kept.sum()), at))
            kind.append(np.full(int(kept.sum()), REPLACE))
            put.append(others[kept])
            steps.append(far[kept])
        last = int(sample.visit[-1]) if len(token) else 0
        before = np.unique(token[(sample.visit == last - 1) & (last > 1)])
        copied = np.setdiff1d(before[allowed[before]], token[sample.visit == last])
        position.append(np.full(len(copied), int(np.searchsorted(sample.visit, last))))
        kind.append(np.full(len(copied), INSERT))
        put.append(copied)
        steps.append(np.full(len(copied), COPIED))
        whole = [np.concatenate(part).astype(np.int64) for part in (position, kind, put)]
        parts.append((np.full(len(whole[0]), example, dtype=np.int64), *whole))
        distance.append(np.concatenate(steps).astype(np.float64))
    nothing = np.zeros(0, dtype=np.int64)
    example, position, kind, put = (np.concatenate([nothing, *(part[at] for part in parts)]) for at in range(4))
    return Candidates(example, position, kind, put, np.concatenate([np.zeros(0), *distance]))


def limits(samples: Sequence[Sample]) -> Ints:
    """Return how many edits each sample takes: a tenth of its dated tokens, at least one."""
    return np.array([max(1, int(SHARE * (sample.visit > 0).sum())) for sample in samples], dtype=np.int64)


def edited(sample: Sample, edits: Candidates, picks: Sequence[int]) -> Sample:
    """Return a sample after edits, rows of the table; ages, visits and dates of what stays are what they were."""
    token, visit, age = sample.token.copy(), sample.visit, sample.age_days
    lost: list[int] = []
    put: list[tuple[int, int]] = []
    for pick in picks:
        at, kind = int(edits.position[pick]), int(edits.kind[pick])
        if kind == REPLACE:
            token[at] = edits.token[pick]
        elif kind == DELETE:
            lost.append(at)
        else:
            put.append((at, int(edits.token[pick])))
    # What is put before a position has its visit and its age; insertions come first, so that positions still hold.
    places = [at for at, _ in put]
    token = np.insert(token, places, [code for _, code in put])
    visit, age = np.insert(visit, places, visit[places]), np.insert(age, places, age[places])
    kept = np.ones(len(token), dtype=bool)
    kept[[at + sum(place <= at for place in places) for at in lost]] = False
    if not kept.any():
        kept[0] = True
    return sample._replace(token=token[kept], visit=visit[kept], age_days=age[kept])
