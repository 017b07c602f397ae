"""Attacks of one report: on codes, and where there are gradients on embeddings."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from ehr.shifts.candidates import Rules, rules
from ehr.timelines import cut
from pipelines.answering import Model, records
from pipelines.cohort import Cohort, splits, timelines
from pipelines.progress import Track
from pipelines.robustness import codes
from pipelines.robustness.codes import BUDGETS, Victims, company
from pipelines.samples import Questions, samples_of

RADII = (0.05, 0.1, 0.2)
"""Of embeddings, as shares of their median length."""
STEPS = 20
COMPANIONS = 4000
"""Training records whose codes say what keeps company with what, at most."""
BATCH = 25
Floats = npt.NDArray[np.float32]


class Outcome(NamedTuple):
    """What attacks found.

    Attributes:
        table: ATTACKS.
        codes: a row an attack and budget.
        embeddings: a row a radius; empty on a release, which has no gradients.
        patients: whom they were tried on.
    """

    table: pl.DataFrame
    codes: list[dict[str, Any]]
    embeddings: list[dict[str, Any]]
    patients: int


def chosen(asked: Questions, places: Sequence[tuple[int, int]], most: int, seed: int) -> npt.NDArray[np.int64]:
    """Return the latest labelled question of some patients, at most so many, by a draw of their own."""
    known = np.flatnonzero(np.stack([~np.isnan(asked.label[:, k, h]) for k, h in places]).any(0))
    last = known[np.append(np.diff(asked.subject[known]) != 0, [True])[: len(known)]]
    drawn = np.random.Generator(np.random.Philox(seed)).permutation(len(last))[:most]
    return np.sort(last[drawn])


def attack(
    model: Model, cohort: Cohort, asked: Questions, places: Sequence[tuple[int, int]], *, most: int, seed: int
) -> Outcome:
    """Attack patients' records.

    Args:
        model: a run or a release, whose axes the labels have.
        cohort: whose training records say what codes keep company.
        asked: questions of one split, labels in the model's axes.
        places: k, h of the outcomes and horizons that attacks look at.
        most: patients, at most.
        seed: of who is attacked, and of random edits.
    """
    at = chosen(asked, places, most, seed)
    some = Questions(asked.subject[at], asked.time[at], asked.label[at])
    samples = samples_of(records(cohort, model.vocabulary, some.subject), some, model.max_length)
    there = [number for number, sample in enumerate(samples) if (sample.visit > 0).any()]
    label = np.full_like(some.label, np.nan)
    for k, h in places:
        label[:, k, h] = some.label[:, k, h]
    victims = Victims([samples[number] for number in there], label[there], some.subject[there])
    network = network_of(model)
    clean = model.logits(victims.samples)
    known = rules(model.vocabulary, [pattern for outcome in model.registry.outcomes for pattern in outcome.any_of])
    points = np.quantile(clean, 0.9, axis=0).astype(np.float32)
    found = searched(model, victims, known, network, seed)
    beside = company(training_records(cohort, model), model.vocabulary.size)
    rows = [row for one in found for row in codes.rows(one, victims, clean, points, beside)]
    frame = codes.table_of(rows)
    whole = codes.rank(clean, victims.label, places)
    summary: list[dict[str, Any]] = [{"attack": "none", "budget": 0, **whole}]
    for one in found:
        for budget in BUDGETS:
            own = frame.filter(attack=one.name, budget=budget)
            told = {
                "success": float(own["flipped"].to_numpy().mean()) if len(own) else 0.0,
                "edits": own["edits"].mean(),
                "distance": own["distance"].mean(),
                "lift": own["lift"].mean(),
            }
            ranked = codes.rank(one.logit[budget], victims.label, places)
            summary.append({"attack": one.name, "budget": budget, **ranked, **told})
    return Outcome(frame, summary, moved(network, victims, places, seed), len(victims.samples))


def searched(
    model: Model,
    victims: Victims,
    known: Rules,
    network: Any,  # noqa: ANN401  torch is loaded late
    seed: int,
) -> list[codes.Attacked]:
    """Return both attacks and random edits; of a run the white box and the black box, of a release the latter."""
    from functools import partial

    found: list[codes.Attacked] = []
    with Track("attacking codes, patients", len(victims.samples) * (1 + (network is not None))) as bar:

        def by_parts(name: str, saliency: codes.Saliency | None) -> None:
            parts: list[list[codes.Attacked]] = []
            for begin in range(0, len(victims.samples), BATCH):
                part = slice(begin, begin + BATCH)
                own = Victims(victims.samples[part], victims.label[part], victims.ids[part])
                parts.append(codes.attack(model.logits, own, known, seed=seed + begin, saliency=saliency))
                bar.advance(len(own.samples))
            merged = [codes.merged([part[number] for part in parts]) for number in range(2)]
            found.extend(merged if name == "first" else merged[:1])

        if network is not None:
            from pipelines.robustness.gradients import promise

            by_parts("first", partial(promise, network))
        by_parts("first" if network is None else "second", None)
    return found


def network_of(model: Model) -> Any:  # noqa: ANN401  torch is loaded late
    """Return the network of a run, None of a release."""
    if model.kind != "run":
        return None
    from pipelines.predict import load_network

    return load_network(model.path)


def moved(network: Any, victims: Victims, places: Sequence[tuple[int, int]], seed: int) -> list[dict[str, Any]]:  # noqa: ANN401
    """Return how answers rank after embeddings were moved, a row a radius."""
    if network is None:
        return []
    from pipelines.robustness import gradients

    found: list[dict[str, Any]] = []
    with Track("attacking embeddings, radii", len(RADII)) as bar:
        for share in RADII:
            logit = gradients.moved(network, victims.samples, victims.label, share=share, steps=STEPS, seed=seed)
            found.append({"radius": share, **codes.rank(logit, victims.label, places)})
            bar.advance()
    return found


def training_records(cohort: Cohort, model: Model) -> list[npt.NDArray[np.int32]]:
    """Return the tokens of some training records in the model's vocabulary."""
    held = splits(cohort).filter(split="train")["subject_id"].to_numpy()
    some = held[np.linspace(0, len(held) - 1, min(COMPANIONS, len(held))).astype(np.int64)]
    same = model.vocabulary.digest == cohort.vocabulary.digest
    source = timelines(cohort) if same else records(cohort, model.vocabulary, some)
    return [cut(source.record(int(at)), 2**62, max_length=2**20).token for at in some]
