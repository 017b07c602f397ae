"""Scores of models on documents, beside each other, with intervals by groups of documents."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from pipelines.documents import metrics
from pipelines.documents.catalogue import Catalogue
from pipelines.documents.predictions import chosen, places

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
ALL = "all"
SCORES = pl.Schema(
    {
        "model": pl.String,
        "data_type": pl.String,
        "level": pl.String,
        "name": pl.String,
        "metric": pl.String,
        "value": pl.Float64,
        "lower": pl.Float64,
        "upper": pl.Float64,
        "tasks": pl.Int64,
        "rows": pl.Int64,
    }
)
"""`level` is `all`, `category` or `task`, `name` which of them. `minority_aupr` is a mean over questions,
`minority_aupr_tasks` one over tasks (`classic`), `chance` what constant scores reach over questions, `luck` what
scores in random order reach on average, which is more where rows are few;
`minority_aupr_over_MODEL` the first model's less another's. 95 % intervals."""


class Draws(NamedTuple):
    """How often each group stands in each resample.

    Attributes:
        groups: G names, ascending.
        weight: f64 [G, 1 + B]; column 0 is the documents themselves.
    """

    groups: tuple[str, ...]
    weight: Floats

    def of(self, groups: Sequence[str]) -> Floats:
        """Return the weights of rows by their group, f64 [N, 1 + B]."""
        place = {group: at for at, group in enumerate(self.groups)}
        return self.weight[[place[group] for group in groups]]


class Task(NamedTuple):
    """The rows of one task.

    Attributes:
        at: its place in the catalogue.
        rows: their places in the documents, i64 [n].
        label: i64 [n].
        options: C.
    """

    at: int
    rows: Ints
    label: Ints
    options: int


class Evaluation(NamedTuple):
    """What an evaluation found.

    Attributes:
        scores: SCORES.
        skipped: tasks without AUPR, since an option has none or all of their rows, with their data_type.
    """

    scores: pl.DataFrame
    skipped: tuple[tuple[str, str], ...]


def draw(groups: Sequence[str], *, resamples: int = 1000, seed: int = 0) -> Draws:
    """Resample groups with replacement: a contract or patient comes with all of its rows.

    Rows of one group are alike, and 79 % of MAUD's repeat a passage: resampling rows would narrow every interval.
    """
    names = sorted(set(groups))
    random = np.random.Generator(np.random.Philox(seed))
    drawn = random.multinomial(len(names), np.full(len(names), 1 / max(1, len(names))), size=resamples).T
    return Draws(tuple(names), np.concatenate([np.ones((len(names), 1)), drawn.astype(np.float64)], 1))


def tasks_of(documents: pl.DataFrame, catalogue: Catalogue) -> list[Task]:
    """Return the tasks that have labelled rows, in the order of the catalogue."""
    place = places(documents, catalogue)
    label = documents["label"].fill_null(-1).to_numpy()
    found = [np.flatnonzero((place == at) & (label >= 0)) for at in range(len(catalogue.questions))]
    return [Task(at, rows, label[rows], int(catalogue.num_options[at])) for at, rows in enumerate(found) if len(rows)]


def scorable(tasks: Sequence[Task]) -> list[Task]:
    """Return the tasks of which every option has some of the rows, but not all."""
    return [task for task in tasks if not metrics.missing(task.label, task.options)]


def aupr(task: Task, probability: Floats, weight: Floats) -> Floats:
    """Return the minority AUPR of a task in each resample, f64 [1 + B].

    Which side of a class is the rarer is settled by the rows themselves, for all resamples. A resample without a row
    of a class has the mean over the others.
    """
    margins = metrics.margin(probability[task.rows, : task.options])
    sides = [metrics.minority(margins[:, at], task.label == at) for at in range(task.options)]
    return mean(np.stack([metrics.weighted_precision(score, side, weight[task.rows]) for score, side in sides]))


def mean(values: Floats) -> Floats:
    """Return the mean over the first axis of what is a number, NaN where nothing is."""
    known = np.isfinite(values)
    counts = known.sum(0)
    return np.where(counts > 0, np.where(known, values, 0).sum(0) / np.maximum(counts, 1), np.nan)


def over_questions(values: Mapping[int, Floats], catalogue: Catalogue) -> Floats:
    """Return the mean over questions of the mean over their sub-questions, f64 [1 + B]: the headline.

    Args:
        values: f64 [1 + B] by place in the catalogue.
        catalogue: says which question a task belongs to.
    """
    parents: dict[str, list[Floats]] = {}
    for at, value in values.items():
        parents.setdefault(catalogue.parents[at], []).append(value)
    return mean(np.stack([mean(np.stack(part)) for part in parents.values()]))


def interval(replicates: Floats) -> tuple[float, float, float]:
    """Return the value and its 95 % interval by the percentiles of the resamples, f64 [1 + B].

    The resamples are shifted to have the value as their mean. Precision is too high among groups that are drawn twice;
    of a difference the two sides need not have that alike, since constant scores such as the majority's have none.

    Args:
        replicates: the value itself, then those of the resamples.
    """
    value, others = float(replicates[0]), replicates[1:][np.isfinite(replicates[1:])]
    if not np.isfinite(value) or not len(others):
        return value, float("nan"), float("nan")
    lower, upper = np.percentile(others + (value - others.mean()), [2.5, 97.5])
    return value, float(lower), float(upper)


def evaluate(
    documents: pl.DataFrame,
    probability: Mapping[str, Floats],
    catalogue: Catalogue,
    *,
    data_types: Sequence[str] = ("main", "abridged"),
    resamples: int = 1000,
    seed: int = 0,
    allow_missing_classes: bool = False,
) -> Evaluation:
    """Return the scores of models on the rows of one split, `main` and `abridged` apart.

    Args:
        documents: DOCUMENTS, N rows with labels; augment-only rows are never scored.
        probability: f64 [N, C] by model, the first being the one that the others are rivals of.
        catalogue: the questions.
        data_types: what is scored; those without rows are left out.
        resamples: of groups.
        seed: of the resamples.
        allow_missing_classes: leave out tasks without a row of some option, and name them.

    Raises:
        ValueError: there is nothing to score, or a task lacks an option in `main` and that is not allowed.
    """
    if not documents["data_type"].is_in(data_types).any():
        raise ValueError(f"no rows of {' or '.join(data_types)}; expected labelled documents to score")
    draws = draw(documents["group_id"].to_list(), resamples=resamples, seed=seed)
    weight = draws.of(documents["group_id"].to_list())
    parts: list[pl.DataFrame] = []
    skipped: list[tuple[str, str]] = []
    for data_type in data_types:
        rows = documents.with_row_index("row").filter(pl.col("data_type") == data_type)
        if not len(rows):
            continue
        at = rows["row"].to_numpy().astype(np.int64)
        tasks = [task._replace(rows=at[task.rows]) for task in tasks_of(rows, catalogue)]
        held = scorable(tasks)
        lost = [catalogue.ids[at] for at in sorted({task.at for task in tasks} - {task.at for task in held})]
        if lost and data_type == "main" and not allow_missing_classes:
            raise ValueError(
                f"{len(lost)} tasks have an option with none or all of the rows, the first {lost[0]}; "
                "score more documents, or pass --allow-missing-classes"
            )
        skipped += [(data_type, task) for task in lost]
        parts.append(scores_of(tasks, held, probability, weight, catalogue, data_type))
    return Evaluation(pl.concat(parts), tuple(skipped))


def scores_of(
    tasks: Sequence[Task],
    held: Sequence[Task],
    probability: Mapping[str, Floats],
    weight: Floats,
    catalogue: Catalogue,
    data_type: str,
) -> pl.DataFrame:
    """Return SCORES of one data_type."""
    values = {model: {task.at: aupr(task, scores, weight) for task in held} for model, scores in probability.items()}
    places = {task.at for task in tasks}
    levels = {("all", ALL): places}
    for category in dict.fromkeys(question.category for question in catalogue.questions):
        inside = {at for at in places if catalogue.questions[at].category == category}
        levels |= {("category", category): inside} if inside else {}
    rows: list[tuple[object, ...]] = []
    first = next(iter(probability))
    for (level, name), inside in levels.items():
        here = [task for task in tasks if task.at in inside]
        counted = sum(len(task.rows) for task in here)
        for model, scores in probability.items():
            found = {at: value for at, value in values[model].items() if at in inside}
            made = {**means(found, held, catalogue), **plain(here, scores, weight)}
            if model == first and found:
                ours = over_questions(found, catalogue)
                for rival in [other for other in probability if other != first]:
                    theirs = over_questions({at: values[rival][at] for at in found}, catalogue)
                    made[f"minority_aupr_over_{rival}"] = interval(ours - theirs)
            rows += [
                (model, data_type, level, name, metric, *map(known, value), len(here), counted)
                for metric, value in made.items()
            ]
    for task in held:
        name, counted = catalogue.ids[task.at], len(task.rows)
        for model in probability:
            value = interval(values[model][task.at])
            rows.append((model, data_type, "task", name, "minority_aupr", *map(known, value), 1, counted))
        rows.append((first, data_type, "task", name, "chance", chance(task), None, None, 1, counted))
    return pl.DataFrame(rows, schema=SCORES, orient="row")


def means(
    found: Mapping[int, Floats], held: Sequence[Task], catalogue: Catalogue
) -> dict[str, tuple[float, float, float]]:
    """Return minority AUPR over questions and over tasks, chance and luck over questions."""
    if not found:
        return {}
    shares = {task.at: np.array([chance(task)]) for task in held if task.at in found}
    lucky = {task.at: np.array([metrics.luck(task.label, task.options)]) for task in held if task.at in found}
    return {
        "minority_aupr": interval(over_questions(found, catalogue)),
        "minority_aupr_tasks": interval(mean(np.stack(list(found.values())))),
        "chance": (float(over_questions(shares, catalogue)[0]), float("nan"), float("nan")),
        "luck": (float(over_questions(lucky, catalogue)[0]), float("nan"), float("nan")),
    }


def chance(task: Task) -> float:
    """Return what scores without information reach on a task."""
    return metrics.chance(task.label, task.options)


def plain(tasks: Sequence[Task], probability: Floats, weight: Floats) -> dict[str, tuple[float, float, float]]:
    """Return balanced accuracy and macro F1, means over tasks, and accuracy (micro F1) and ECE over all rows."""
    balanced, f1, right, bins = [], [], [], []
    for task in tasks:
        scores, times = probability[task.rows, : task.options], weight[task.rows]
        best = chosen(scores, np.full(len(scores), task.options))
        one = np.eye(task.options)
        hit = (best == task.label).astype(np.float64)
        hits = (one[task.label] * hit[:, None]).T @ times
        there, said = one[task.label].T @ times, one[best].T @ times
        balanced.append(mean(np.where(there > 0, hits / np.maximum(there, 1), np.nan)))
        f1.append(mean(np.where(there + said > 0, 2 * hits / np.maximum(there + said, 1), np.nan)))
        right.append(np.stack([hit @ times, times.sum(0)]))
        confidence = scores[np.arange(len(scores)), best]
        place = np.minimum((confidence * metrics.BINS).astype(np.int64), metrics.BINS - 1)
        bins.append(np.eye(metrics.BINS)[place].T @ ((confidence - hit)[:, None] * times))
    hits, total = np.sum(right, 0)
    total = np.maximum(total, 1)
    return {
        "balanced_accuracy": interval(mean(np.stack(balanced))),
        "macro_f1": interval(mean(np.stack(f1))),
        "accuracy": interval(hits / total),
        "ece": interval(np.abs(np.sum(bins, 0)).sum(0) / total),
    }


def known(value: float) -> float | None:
    """Return a number, None where it is none."""
    return value if np.isfinite(value) else None
