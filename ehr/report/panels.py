"""One outcome and horizon as a figure: ROC, precision and recall, reliability, decision curve, subgroups."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import polars as pl
from matplotlib.axes import Axes

from ehr.metrics import curves
from ehr.metrics.measures import FEW
from ehr.metrics.resampling import Floats
from ehr.metrics.scores import Slot
from ehr.report import svg
from ehr.report.names import words

LINES = ("-", "--", "-.", ":", "-", "--")
"""Models differ in line and mark too: not everyone sees colours apart, and paper may be grey."""
MARKS = ("o", "s", "^", "D", "v", "P")
WIDTH, HEIGHT = 11.5, 6.6
LETTER = 0.062
"""Inches that a letter of a subgroup's name takes at most."""


def detail(slot: Slot, models: Sequence[str], groups: pl.DataFrame) -> str:
    """Draw one outcome and horizon."""
    rows = groups.filter(metric="auroc")
    names = [group_name(row) for row in rows.iter_rows(named=True)]
    with mpl.rc_context(svg.STYLE):
        # Places are given: to find them by measuring all texts takes longer than drawing.
        figure = svg.fixed(WIDTH, HEIGHT)
        left, right, across = 0.065, 0.99, 0.26
        columns = [left, (left + right - across) / 2, right - across]
        for column, draw in zip(columns, (draw_roc, draw_precision, draw_reliability), strict=True):
            draw(figure.add_axes((column, 0.575, across, 0.345)), slot, models)
        draw_benefit(figure.add_axes((left, 0.075, across, 0.375)), slot, models)
        label = min(2.9, LETTER * max((len(name) for name in names), default=0)) / WIDTH
        start = left + across + 0.015 + label
        draw_groups(figure.add_axes((start, 0.075, right - start, 0.375)), rows, names)
        handles = figure.axes[0].get_legend_handles_labels()
        figure.legend(*handles, loc="upper center", ncols=len(models), borderaxespad=0.1)
    return svg.render(figure, f"Curves of {words(slot.outcome)} within {slot.horizon_days} days")


def style(number: int) -> dict[str, Any]:
    """Return colour and line of the model of this number."""
    return {"color": svg.ORDER[number], "linestyle": LINES[number], "linewidth": 1.8 if number == 0 else 1.3}


def draw_roc(axes: Axes, slot: Slot, models: Sequence[str]) -> None:
    """Draw sensitivity over the false-positive rate."""
    axes.plot([0, 1], [0, 1], color=svg.GREY, linewidth=1, linestyle=":")
    for number, model in enumerate(models):
        line = curves.thin(*curves.roc(slot.probability[model], slot.label))
        axes.plot(*line, label=words(model), **style(number), zorder=3 - 0.1 * number)
    axes.set(title="ROC", xlabel="False-positive rate", ylabel="Sensitivity", xlim=(0, 1), ylim=(0, 1.01))


def draw_precision(axes: Axes, slot: Slot, models: Sequence[str]) -> None:
    """Draw precision over recall."""
    axes.axhline(float(slot.label.mean()), color=svg.GREY, linewidth=1, linestyle=":")
    top = 0.0
    for number, model in enumerate(models):
        recall, precision = curves.thin(*curves.precision_recall(slot.probability[model], slot.label))
        axes.plot(recall, precision, **style(number), zorder=3 - 0.1 * number)
        # The first few patients jump between 0 and 1; they do not set the scale.
        top = max(top, float(precision[recall >= min(0.05, recall[-1])].max()))
    axes.set(title="Precision and recall (dotted: prevalence)", xlabel="Recall", ylabel="Precision", xlim=(0, 1))
    axes.set_ylim(0, min(1.02, 1.25 * top))


def draw_reliability(axes: Axes, slot: Slot, models: Sequence[str]) -> None:
    """Draw observed frequency over mean probability in ten bins of equal mass, intervals for the first model."""
    found = [curves.reliability(slot.probability[model], slot.label) for model in models]
    top = 1.08 * max(max(part.expected.max(), part.observed.max()) for part in found)
    top = min(1.0, max(top, float(found[0].upper.max())))
    axes.plot([0, 1], [0, 1], color=svg.GREY, linewidth=1, linestyle=":")
    for number, part in enumerate(found):
        shown: dict[str, Any] = {**style(number), "marker": MARKS[number], "markersize": 4}
        shown["linewidth"] = 1.5 if number == 0 else 0.9
        axes.plot(part.expected, part.observed, **shown, zorder=3 - 0.1 * number)
    axes.vlines(found[0].expected, found[0].lower, found[0].upper, color=svg.ORDER[0], alpha=0.4)
    axes.set(title="Reliability (tenths of the samples)", xlabel="Predicted probability", ylabel="Observed frequency")
    axes.set(xlim=(0, top), ylim=(0, top))
    axes.locator_params(nbins=5)


def draw_benefit(axes: Axes, slot: Slot, models: Sequence[str]) -> None:
    """Draw net benefit over the threshold, beside treating everyone and no one."""
    prevalence = float(slot.label.mean())
    highest = max(float(np.quantile(slot.probability[model], 0.995)) for model in models)
    threshold = np.linspace(0, min(0.95, max(3 * prevalence, highest)), 121)[1:]
    axes.axhline(0, color=svg.GREY, linewidth=1)
    everyone = prevalence - (1 - prevalence) * threshold / (1 - threshold)
    axes.plot(threshold, everyone, color=svg.GREY, linewidth=1)
    for number, model in enumerate(models):
        benefit = curves.net_benefit(slot.probability[model], slot.label, threshold)
        axes.plot(threshold, benefit, **style(number), zorder=3 - 0.1 * number)
    axes.set(title="Decision curve", xlabel="Threshold probability", ylabel="Net benefit")
    axes.set(xlim=(0, threshold[-1]), ylim=(-0.25 * prevalence, 1.08 * prevalence))
    noted: dict[str, Any] = {"textcoords": "offset points", "color": svg.DARK, "fontsize": 8}
    # Beyond the prevalence, where treating everyone does harm, there is room below zero.
    axes.annotate("treat all", (min(1.12 * prevalence, 0.7 * threshold[-1]), -0.16 * prevalence), (6, -2), **noted)
    axes.annotate("treat none", (threshold[-1], 0), (0, -10), ha="right", **noted)


def group_name(row: Mapping[str, Any]) -> str:
    """Return attribute, group and size; a few patients are not told, since they could be known by it."""
    name = f"{words(row['attribute'])} {row['group']}"
    if row["count"] < FEW:
        return f"{name} (under {FEW})"
    few = row["positives"] < FEW
    return f"{name} ({f'under {FEW}' if few else format(row['positives'], ',')} of {row['count']:,})"


def draw_groups(axes: Axes, rows: pl.DataFrame, names: Sequence[str]) -> None:
    """Draw the AUROC of each subgroup with its interval."""
    estimable = rows.filter(pl.col("value").is_not_null())
    place = np.array([at for at, value in enumerate(rows["value"]) if value is not None], np.float64)
    spread(axes, estimable, place, 0, "AUROC")
    for at, value in enumerate(rows["value"]):
        if value is None:
            axes.text(0.5, at, "not estimable", transform=axes.get_yaxis_transform(), va="center", color=svg.DARK)
    axes.axvline(0.5, color=svg.GREY, linewidth=1, linestyle=":")
    axes.set_yticks(range(len(names)), names, fontsize=8 if len(names) < 16 else 6)
    axes.set_ylim(max(len(names), 1) - 0.4, -0.6)
    low = estimable["lower"].drop_nans().min() if len(estimable) else None
    axes.set_xlim(min(0.45, float(low) - 0.02) if isinstance(low, float) else 0.45, 1)
    axes.grid(visible=False, axis="y")
    axes.set_title("AUROC by subgroup (positives of samples)")


def spread(axes: Axes, rows: pl.DataFrame, place: Floats, number: int, label: str) -> None:
    """Draw values with intervals at heights, for the model of this number."""
    value, lower, upper = (rows[name].fill_null(np.nan).to_numpy() for name in ("value", "lower", "upper"))
    colour = svg.ORDER[number]
    axes.hlines(place, lower, upper, color=colour, linewidth=1.6, alpha=0.55)
    axes.scatter(value, place, color=colour, s=18, marker=MARKS[number], label=label, zorder=3)
