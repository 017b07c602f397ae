"""Logistic regression and gradient boosting for one outcome and horizon, settings chosen on the tuning split."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from ehr.baselines.design import Columns, Floats

Bools = npt.NDArray[np.bool_]
PENALTIES = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1)
"""Inverse strengths C of the L2 penalty that are tried, ascending."""
SHAPES = ((4, 0.1), (12, 0.06))
"""Leaves and learning rates that are tried; the number of trees is where the tuning loss is least."""
TREES, PATIENCE = 200, 10
LARGE = 10_000_000
"""Cells of a table from which boosting uses all threads."""
TOP = 60
"""Token columns that boosting is given, those most associated with the label in training."""
MOST_SAMPLES = 100_000
"""Training samples of one fit, at most."""
FEW = 5
"""Tuning positives under which nothing is chosen by them; the first shape or a middle penalty is taken."""
MODELS = ("logistic_regression", "gradient_boosting")


class Labelled(NamedTuple):
    """Samples with their labels: columns of N samples; 0, 1 or NaN, f32 [N, K, H]."""

    columns: Columns
    label: Floats

    def known(self, k: int, h: int) -> tuple[npt.NDArray[np.int64], Bools]:
        """Return rows with a label, and which of them are positive."""
        rows = np.flatnonzero(~np.isnan(self.label[:, k, h]))
        return rows, self.label[rows, k, h] == 1


class Task(NamedTuple):
    """One fit: training rows and labels, tuning rows and labels; tuning is None where it can choose nothing."""

    train: Columns
    rows: npt.NDArray[np.int64]
    positive: Bools
    tuning: Columns | None
    tuning_rows: npt.NDArray[np.int64]
    tuning_positive: Bools


def answers(
    train: Labelled, tuning: Labelled | None, asked: Sequence[Columns], slots: Iterable[tuple[int, int]]
) -> Iterator[dict[str, list[npt.NDArray[np.float64]]]]:
    """Fit both models to each outcome and horizon and yield their logits on the samples asked, by model.

    Args:
        train: training samples.
        tuning: samples that settings are chosen on; defaults are taken where None.
        asked: samples to answer; each gives one f64 [N].
        slots: places k, h in the labels.
    """
    for k, h in slots:
        task = task_of(train, tuning, k, h)
        count = int(task.positive.sum())
        if not 0 < count < len(task.positive):
            # Nothing to learn from: everyone gets the frequency.
            rate = np.log((count + 0.5) / (len(task.positive) - count + 0.5))
            yield {model: [np.full(part.dense.shape[0], rate) for part in asked] for model in MODELS}
            continue
        yield {
            model: [np.asarray(logit(part), np.float64) for part in asked]
            for model, logit in zip(MODELS, (logistic(task), boosting(task)), strict=True)
        }


def task_of(train: Labelled, tuning: Labelled | None, k: int, h: int) -> Task:
    """Return the labelled rows of one outcome and horizon."""
    rows, positive = train.known(k, h)
    if len(rows) > MOST_SAMPLES:
        chosen = np.sort(np.random.default_rng(0).permutation(len(rows))[:MOST_SAMPLES])
        rows, positive = rows[chosen], positive[chosen]
    at, there = tuning.known(k, h) if tuning else (np.zeros(0, np.int64), np.zeros(0, np.bool_))
    usable = tuning is not None and there.sum() >= FEW and (~there).sum() >= FEW
    return Task(train.columns, rows, positive, tuning.columns if usable and tuning else None, at, there)


def logistic(task: Task) -> Callable[[Columns], Any]:
    """Fit an L2-penalised logistic regression; each penalty starts from the one before."""
    x, y, tuning = task.train.linear[task.rows], task.positive, task.tuning
    model = LogisticRegression(solver="lbfgs", tol=1e-3, max_iter=200, warm_start=True)
    best, weight, intercept = np.inf, np.zeros(x.shape[1]), 0.0
    for penalty in PENALTIES if tuning else PENALTIES[3:4]:
        model.set_params(C=penalty)
        with warnings.catch_warnings():
            # Two hundred steps are enough for a ranking; what is left changes no figure.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(x, y)
        loss = log_loss(decision(model, tuning.linear[task.tuning_rows]), task) if tuning else 0.0
        if loss < best:
            best, weight, intercept = loss, np.array(model.coef_).ravel(), np.array(model.intercept_).item()
    return lambda columns: columns.linear @ weight + intercept


def boosting(task: Task) -> Callable[[Columns], Any]:
    """Fit histogram gradient boosting on dense columns and the token columns most associated with the label."""
    top, tuning = associated(task), task.tuning
    x, y = table(task.train, top)[task.rows], task.positive
    # A column without a value in these rows has no bins.
    held = np.flatnonzero(~np.isnan(x).all(0))
    x = x[:, held]
    best, chosen = np.inf, None
    # Threads of small trees mostly wait for each other.
    with threadpool_limits(None if x.size > LARGE else 1, user_api="openmp"):
        for leaves, rate in SHAPES if tuning else SHAPES[:1]:
            model = HistGradientBoostingClassifier(
                learning_rate=rate,
                max_iter=TREES if tuning else TREES // 3,
                max_leaf_nodes=leaves,
                min_samples_leaf=20,
                l2_regularization=5.0,
                max_features=0.5,
                early_stopping=bool(tuning),  # pyright: ignore[reportArgumentType]
                n_iter_no_change=PATIENCE,
                scoring="loss",
                random_state=0,
            )
            if tuning:
                at = table(tuning, top)[task.tuning_rows][:, held]
                model.fit(x, y, X_val=at, y_val=task.tuning_positive)
                loss = log_loss(decision(model, at), task)
            else:
                loss = 0.0
                model.fit(x, y)
            if loss < best:
                best, chosen = loss, model
    return lambda columns: decision(chosen, table(columns, top)[:, held])


def associated(task: Task) -> npt.NDArray[np.int64]:
    """Return the token columns with the largest score statistic, (x - mean)ᵀ(y - mean) over its deviation."""
    x = task.train.tokens[task.rows]
    y = task.positive - task.positive.mean()
    mean, square = np.asarray(x.mean(0)).ravel(), np.asarray(x.multiply(x).mean(0)).ravel()
    score = np.abs(x.T @ y) / np.sqrt(np.maximum(square - mean**2, 1e-6))
    return np.sort(np.argsort(-score, kind="stable")[:TOP])


def table(columns: Columns, top: npt.NDArray[np.int64]) -> Floats:
    """Return the dense columns beside the chosen token columns, f32 [N, D + 60]."""
    return np.concatenate([columns.dense, columns.tokens[:, top].toarray()], 1)


def decision(model: Any, x: Any) -> npt.NDArray[np.float64]:  # noqa: ANN401  scikit-learn's own types
    """Return logits f64 [N]."""
    return np.asarray(model.decision_function(x), np.float64)


def log_loss(logit: npt.NDArray[np.float64], task: Task) -> float:
    """Return the mean log loss on the tuning split."""
    return float((np.logaddexp(0, logit) - task.tuning_positive * logit).mean())
