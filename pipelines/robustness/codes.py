"""Attacks on codes: each record edited a little, so that the model's answers leave its own labels."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from ehr.metrics.measures import Answers, ranking
from ehr.shifts.candidates import Candidates, Rules, candidates, edited, limits
from ehr.timelines import Sample
from ehr.vocabulary import MASK
from robust.attacks.discrete import NONE, CodeAttack, Edits, Found, random_edits

BUDGETS = (1, 2, 3, 5)
LEAST = 5
"""Positives and negatives under which an outcome is left out of those attacked."""
Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Answering = Callable[[Sequence[Sample]], Floats]
Saliency = Callable[[Sequence[Sample], Floats, Candidates], npt.NDArray[np.float64]]
ATTACKS = pl.Schema(
    {
        "subject_id": pl.Int64(),
        "prediction_time": pl.Datetime("us"),
        "attack": pl.String(),
        "budget": pl.Int32(),
        "edits": pl.Int32(),
        "gain": pl.Float64(),
        "flipped": pl.Boolean(),
        "distance": pl.Float64(),
        "lift": pl.Float64(),
        "questions": pl.Int64(),
    }
)


class Attacked(NamedTuple):
    """What one attack did to B samples.

    Attributes:
        name: white_box, black_box or random.
        found: choices by budget.
        logit: by budget, f32 [B, K, H].
        edits: what could be done.
    """

    name: str
    found: Found
    logit: dict[int, Floats]
    edits: Candidates


class Victims(NamedTuple):
    """Whom an attack is tried on.

    Attributes:
        samples: B of them.
        label: 0, 1 or NaN, f32 [B, K, H]; NaN where the attack does not look.
        ids: by which random edits are random, i64 [B].
    """

    samples: list[Sample]
    label: Floats
    ids: Ints


def harm(logit: Floats, label: Floats) -> npt.NDArray[np.float64]:
    """Return the loss of each sample, summed over its labels, f64 [B]: what attacks raise."""
    there = ~np.isnan(label)
    z, y = logit.astype(np.float64), np.where(there, label, 0.0)
    return np.where(there, np.logaddexp(0, z) - y * z, 0.0).sum((1, 2))


def attack(
    answering: Answering, victims: Victims, known: Rules, *, seed: int, saliency: Saliency | None
) -> list[Attacked]:
    """Attack samples by beam search, and edit them at random beside.

    Args:
        answering: samples -> logits f32 [N, K, H].
        victims: whom.
        known: what may be edited.
        seed: of random edits.
        saliency: what each edit promises by gradients (white box); None asks about each edit alone (black box).
    """
    samples = victims.samples
    table = candidates(samples, known)
    edits = Edits(*table)
    most = limits(samples)

    def score(example: Ints, picks: Ints) -> npt.NDArray[np.float64]:
        tried = [edited(samples[at], table, row[row != NONE].tolist()) for at, row in zip(example, picks, strict=True)]
        return harm(answering(tried), victims.label[example]) if tried else np.zeros(0)

    budget = max(BUDGETS)
    promised = None if saliency is None else saliency(samples, victims.label, table)
    name = "black_box" if saliency is None else "white_box"
    searched = CodeAttack(budget=budget).search(score, edits, len(samples), most=most, saliency=promised)
    drawn = random_edits(score, edits, len(samples), budget=budget, seed=seed, most=most)
    return [
        Attacked(how, found, {at: answers(answering, samples, table, found.picks[:, at]) for at in BUDGETS}, table)
        for how, found in ((name, searched), ("random", drawn))
    ]


def answers(answering: Answering, samples: Sequence[Sample], table: Candidates, picks: Ints) -> Floats:
    """Return logits of samples after some edits each, f32 [B, K, H]."""
    return answering(
        [edited(sample, table, row[row != NONE].tolist()) for sample, row in zip(samples, picks, strict=True)]
    )


def rank(logit: Floats, label: Floats, places: Sequence[tuple[int, int]]) -> dict[str, float]:
    """Return macro-AUROC and macro-AUPRC over outcomes and horizons of a few positives; empty where there is none."""
    found: list[tuple[float, float]] = []
    for k, h in places:
        known = ~np.isnan(label[:, k, h])
        if min((label[known, k, h] == 1).sum(), (label[known, k, h] == 0).sum()) < LEAST:
            continue
        alone = np.arange(int(known.sum()))
        answered = Answers(logit[known, k, h].astype(np.float64), label[known, k, h] == 1, alone)
        auroc, auprc = ranking(answered, np.ones((len(alone), 1), np.uint8))
        found.append((float(auroc[0]), float(auprc[0])))
    return dict(zip(("auroc", "auprc"), np.mean(found, axis=0).tolist(), strict=True)) if found else {}


def flipped(clean: Floats, now: Floats, label: Floats, points: Floats) -> npt.NDArray[np.bool_]:
    """Return which samples had an answer cross its operating point, away from the label, bool [B].

    Args:
        clean: logits [B, K, H].
        now: after edits.
        label: 0, 1 or NaN.
        points: operating points in logits, [K, H].
    """
    away = np.where(label == 1, (clean > points) & (now <= points), (clean <= points) & (now > points))
    return np.any(away & ~np.isnan(label), axis=(1, 2)).astype(np.bool_)


def merged(parts: Sequence[Attacked]) -> Attacked:
    """Return one attack whose samples were attacked part by part."""
    edits: list[Candidates] = []
    picks: list[Ints] = []
    samples = rows = 0
    for part in parts:
        held = part.found.picks
        picks.append(np.where(held == NONE, NONE, held + rows))
        edits.append(part.edits._replace(example=part.edits.example + samples))
        samples, rows = samples + len(held), rows + len(part.edits.example)
    whole = Candidates(*(np.concatenate(columns) for columns in zip(*edits, strict=True)))
    gain, asked = (np.concatenate([getattr(part.found, name) for part in parts]) for name in ("gain", "asked"))
    logit = {budget: np.concatenate([part.logit[budget] for part in parts]) for budget in BUDGETS}
    return Attacked(parts[0].name, Found(gain, np.concatenate(picks), asked), logit, whole)


class Company(NamedTuple):
    """How often tokens stand in one training record, beside what chance would have.

    Attributes:
        lift: log of observed over expected, with a half added to both, f32 [V, V].
    """

    lift: npt.NDArray[np.float32]

    def of(self, sample: Sample, token: int) -> float:
        """Return the mean lift of a token with a record's own."""
        own = np.unique(sample.token[sample.visit > 0])
        own = own[(own > MASK) & (own != token)]
        return float(self.lift[token, own].mean()) if len(own) else 0.0


def company(records: Sequence[npt.NDArray[np.int32]], size: int) -> Company:
    """Count which tokens keep company in training records.

    Args:
        records: tokens of each.
        size: V.
    """
    from scipy import sparse

    row = np.repeat(np.arange(len(records)), [len(np.unique(tokens)) for tokens in records])
    column = np.concatenate([np.zeros(0, np.int32), *(np.unique(tokens) for tokens in records)])
    held: Any = sparse.csr_matrix((np.ones(len(row), np.float32), (row, column)), shape=(len(records), size))
    together = np.asarray((held.T @ held).todense(), dtype=np.float32)
    alone = np.diag(together)
    expected = np.outer(alone, alone) / max(len(records), 1)
    return Company(np.log((together + 0.5) / (expected + 0.5)).astype(np.float32))


def rows(one: Attacked, victims: Victims, clean: Floats, points: Floats, beside: Company) -> list[tuple[Any, ...]]:
    """Return rows of ATTACKS, one a sample and budget."""
    found: list[tuple[Any, ...]] = []
    for budget in BUDGETS:
        crossed = flipped(clean, one.logit[budget], victims.label, points)
        for at, sample in enumerate(victims.samples):
            picks = one.found.picks[at, budget]
            picks = picks[picks != NONE]
            put = [int(one.edits.token[pick]) for pick in picks if one.edits.kind[pick] != 1]
            lift = float(np.mean([beside.of(sample, token) for token in put])) if put else None
            gain = float(one.found.gain[at, budget] - one.found.gain[at, 0])
            distance = float(one.edits.distance[picks].sum())
            asked = int(one.found.asked[at])
            key = (sample.subject, sample.prediction_time, one.name, budget)
            found.append((*key, len(picks), gain, bool(crossed[at]), distance, lift, asked))
    return found


def table_of(found: list[tuple[Any, ...]]) -> pl.DataFrame:
    """Return ATTACKS."""
    schema = {**ATTACKS, "prediction_time": pl.Int64()}
    frame = pl.DataFrame(found, schema=schema, orient="row")
    return frame.with_columns(pl.col("prediction_time").cast(pl.Datetime("us")))
