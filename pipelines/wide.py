"""The linear part of a summary, fitted before training: logistic regression on what the summary weighs.

Few labels teach a network slowly what a penalised regression finds at once; training then adds what it misses.
"""

import warnings
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from ehr.batches import plan
from ehr.model import Anamnesis, seen
from ehr.summary import PLACED, SUMS, Summary, bends
from pipelines.data import Answered, OutcomeSource, tensors
from pipelines.progress import Track

PENALTIES = (0.005, 0.02, 0.08, 0.3)
"""Inverse strengths C of the L2 penalty that are tried, ascending."""
MIDDLE = PENALTIES[1]
FEW = 5
"""Positives, in training and tuning, under which nothing is fitted, or chosen."""
RARE = 10
"""Training questions in which a column must stand."""
TOKENS = 16_384


class Table(NamedTuple):
    """N questions: what a summary weighs of each, and bends of age, sparse f32 [N, 8 V + 8]; labels f32 [N, K, H]."""

    columns: Any
    label: npt.NDArray[np.float32]

    def known(self, k: int, h: int) -> tuple[Any, npt.NDArray[np.bool_]]:
        """Return columns of the questions with a label, and which of them are positive."""
        rows = np.flatnonzero(~np.isnan(self.label[:, k, h]))
        return self.columns[rows], self.label[rows, k, h] == 1


def fit(network: Anamnesis, train: OutcomeSource, tuning: OutcomeSource | None) -> None:
    """Fit the linear part of each outcome and horizon, its penalty chosen on the tuning split.

    Args:
        network: with a summary and a head for each outcome, on the CPU; its linear part and head biases are set.
        train: questions that are learnt from.
        tuning: questions that the penalty is chosen on; a middle one is taken where there are none, or few positives.
    """
    summary = network.heads.summary
    assert summary is not None
    learnt = table(summary, train)
    chosen = table(summary, tuning) if tuning else None
    kept = np.flatnonzero(np.bincount(learnt.columns.indices, minlength=learnt.columns.shape[1]) >= RARE)
    learnt = learnt._replace(columns=learnt.columns[:, kept])
    chosen = chosen._replace(columns=chosen.columns[:, kept]) if chosen else None
    slots = [(k, h) for k, row in enumerate(network.config.horizons) for h, days in enumerate(row) if days > 0]
    with Track("finetune: fitting the linear part, outcomes and horizons", len(slots)) as bar, torch.no_grad():
        for k, h in slots:
            weight, bias = regression(learnt, chosen, k, h)
            if bias is not None:
                whole = np.zeros(summary.wide.shape[0] * SUMS + len(summary.age), dtype=np.float32)
                whole[kept] = weight
                parts = torch.from_numpy(whole).split([summary.wide[..., 0].numel(), len(summary.age)])
                slot = k * network.heads.bias.shape[1] + h
                summary.wide[..., slot], summary.age[:, slot] = parts[0].view(-1, SUMS), parts[1]
                network.heads.bias[k, h] = bias
            bar.advance()


def table(summary: Summary, source: OutcomeSource) -> Table:
    """Return the questions of a source in the order in which its batches ask them."""
    size = len(summary.get_buffer("bare")) * SUMS
    columns: list[Any] = []
    labels: list[npt.NDArray[np.float32]] = []
    for layout in plan(source.lengths, tokens=TOKENS):
        content: Answered = tensors(source.make(layout, 0))
        batch, moments = content.batch, content.moments
        there = moments.segment > 0
        with torch.no_grad():
            weight = summary.weigh(batch.token, seen(batch, moments), batch.age_days, moments.age_days)
            age = bends(moments.age_days)[there].numpy()
        question = torch.cumsum(there.flatten(), 0).view(there.shape) - 1
        row, moment, number, place = weight.nonzero(as_tuple=True)
        token = batch.token[row, place]
        code = torch.where(number < PLACED, token, summary.get_buffer("bare")[token])
        at = (question[row, moment].numpy(), (code * SUMS + number).numpy())
        values = weight[row, moment, number, place].numpy()
        counted = sparse.csr_matrix((values, at), shape=(len(age), size), dtype=np.float32)
        columns.append(sparse.hstack([counted, sparse.csr_matrix(age)], format="csr"))
        labels.append(content.label.numpy())
    return Table(sparse.vstack(columns, format="csr"), np.concatenate(labels))


def regression(learnt: Table, chosen: Table | None, k: int, h: int) -> tuple[npt.NDArray[np.float32], float | None]:
    """Return weights f32 [columns] and intercept of one outcome and horizon; no intercept where too few have it."""
    x, positive = learnt.known(k, h)
    if not FEW <= positive.sum() <= len(positive) - FEW:
        return np.zeros(x.shape[1], np.float32), None
    asked = chosen.known(k, h) if chosen else None
    told = asked is not None and asked[1].sum() >= FEW
    model = LogisticRegression(solver="lbfgs", tol=1e-3, max_iter=100, warm_start=True)
    best, weight, bias = np.inf, np.zeros(x.shape[1], np.float32), 0.0
    for penalty in PENALTIES if told else (MIDDLE,):
        model.set_params(C=penalty)
        with warnings.catch_warnings():
            # A hundred steps are enough for a start of training.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(x, positive)
        loss = 0.0
        if told and asked is not None:
            logit = np.asarray(model.decision_function(asked[0]), np.float64)
            loss = float((np.logaddexp(0, logit) - asked[1] * logit).mean())
        if loss < best:
            best, weight, bias = loss, np.array(model.coef_, np.float32).ravel(), float(np.ravel(model.intercept_)[0])
    return weight, bias
