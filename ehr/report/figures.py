"""What the report draws: an overview, one figure an outcome and horizon, learning curves, attrition."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import polars as pl
from matplotlib.axes import Axes

from ehr.metrics import curves
from ehr.metrics.resampling import Floats
from ehr.metrics.scores import MACRO, Slot
from ehr.report import svg

NAMES: Mapping[str, str] = {
    "anamnesis": "Anamnesis",
    "logistic_regression": "Logistic regression",
    "gradient_boosting": "Gradient boosting",
}


class Curve(NamedTuple):
    """A learning curve: whose, and step, epoch, metric and value."""

    name: str
    rows: pl.DataFrame


def words(name: str) -> str:
    """Return a name of outcome, model or rule as words."""
    return NAMES.get(name, name.replace("_", " "))


def overview(scores: pl.DataFrame, models: Sequence[str]) -> str:
    """Draw AUROC and AUPRC with intervals of all models, one line an outcome and horizon."""
    held = scores.filter(pl.col("outcome") != MACRO, pl.col("value").is_not_null())
    keys = held.select("outcome", "horizon_days").unique(maintain_order=True).rows()
    with mpl.rc_context(svg.STYLE):
        figure = svg.new(11.5, 1.3 + 0.42 * max(len(keys), 1))
        for at, (metric, title) in enumerate((("auroc", "AUROC"), ("auprc", "AUPRC"))):
            axes = figure.add_subplot(1, 2, at + 1)
            for number, model in enumerate(models):
                rows = held.filter(metric=metric, model=model)
                place = np.array([keys.index(key) for key in rows.select("outcome", "horizon_days").rows()])
                spread(axes, rows, place + (number - (len(models) - 1) / 2) * 0.24, svg.ORDER[number], words(model))
            if metric == "auprc":
                chance = held.filter(metric=metric, model=models[0])["prevalence"].to_numpy()
                axes.scatter(chance, np.arange(len(chance)), marker="|", s=120, color=svg.GREY, label="Prevalence")
            else:
                axes.axvline(0.5, color=svg.GREY, linewidth=1, linestyle=":")
            axes.set_yticks(range(len(keys)), [f"{words(name)}, {days} d" for name, days in keys] if not at else [])
            axes.set_ylim(len(keys) - 0.4, -0.6)
            axes.set_title(title)
            axes.grid(visible=False, axis="y")
        handles = figure.axes[-1].get_legend_handles_labels()
        figure.legend(*handles, loc="outside upper center", ncols=len(models) + 1)
    return svg.render(figure, "AUROC and AUPRC of all models by outcome and horizon")


def spread(axes: Axes, rows: pl.DataFrame, place: Floats, colour: str, label: str) -> None:
    """Draw values with intervals at heights."""
    value, lower, upper = (rows[name].fill_null(np.nan).to_numpy() for name in ("value", "lower", "upper"))
    axes.hlines(place, lower, upper, color=colour, linewidth=1.6, alpha=0.55)
    axes.scatter(value, place, color=colour, s=16, label=label, zorder=3)


def detail(slot: Slot, models: Sequence[str], groups: pl.DataFrame) -> str:
    """Draw one outcome and horizon: ROC, precision and recall, reliability, decision curve, subgroups."""
    with mpl.rc_context(svg.STYLE):
        figure = svg.new(11.5, 6.6)
        grid = figure.add_gridspec(2, 3)
        drawn = (draw_roc, draw_precision, draw_reliability, draw_benefit)
        for at, draw in enumerate(drawn):
            axes = figure.add_subplot(grid[at // 3, at % 3])
            draw(axes, slot, models)
        draw_groups(figure.add_subplot(grid[1, 1:]), groups)
        handles = figure.axes[0].get_legend_handles_labels()
        figure.legend(*handles, loc="outside upper center", ncols=len(models))
    return svg.render(figure, f"Curves of {words(slot.outcome)} within {slot.horizon_days} days")


def draw_roc(axes: Axes, slot: Slot, models: Sequence[str]) -> None:
    """Draw sensitivity over the false-positive rate."""
    axes.plot([0, 1], [0, 1], color=svg.GREY, linewidth=1, linestyle=":")
    for colour, model in zip(svg.ORDER, models, strict=False):
        axes.plot(*curves.thin(*curves.roc(slot.probability[model], slot.label)), color=colour, label=words(model))
    axes.set(title="ROC", xlabel="False-positive rate", ylabel="Sensitivity", xlim=(0, 1), ylim=(0, 1.01))


def draw_precision(axes: Axes, slot: Slot, models: Sequence[str]) -> None:
    """Draw precision over recall."""
    axes.axhline(float(slot.label.mean()), color=svg.GREY, linewidth=1, linestyle=":")
    top = 0.0
    for colour, model in zip(svg.ORDER, models, strict=False):
        recall, precision = curves.thin(*curves.precision_recall(slot.probability[model], slot.label))
        axes.plot(recall, precision, color=colour)
        # The first few patients jump between 0 and 1; they do not set the scale.
        top = max(top, float(precision[recall >= min(0.05, recall[-1])].max()))
    axes.set(title="Precision and recall", xlabel="Recall", ylabel="Precision", xlim=(0, 1))
    axes.set_ylim(0, min(1.02, 1.25 * top))


def draw_reliability(axes: Axes, slot: Slot, models: Sequence[str]) -> None:
    """Draw observed frequency over mean probability in ten bins of equal mass, intervals for the first model."""
    found = [curves.reliability(slot.probability[model], slot.label) for model in models]
    top = 1.08 * max(max(part.expected.max(), part.observed.max()) for part in found)
    top = min(1.0, max(top, float(found[0].upper.max())))
    axes.plot([0, 1], [0, 1], color=svg.GREY, linewidth=1, linestyle=":")
    for number, part in enumerate(found):
        marked: dict[str, Any] = {"marker": "o", "markersize": 4 - number, "linewidth": 1.4 if number == 0 else 1}
        axes.plot(part.expected, part.observed, color=svg.ORDER[number], alpha=1 if number == 0 else 0.8, **marked)
    axes.vlines(found[0].expected, found[0].lower, found[0].upper, color=svg.ORDER[0], alpha=0.4)
    axes.set(title="Reliability", xlabel="Predicted probability", ylabel="Observed frequency")
    axes.set(xlim=(0, top), ylim=(0, top))


def draw_benefit(axes: Axes, slot: Slot, models: Sequence[str]) -> None:
    """Draw net benefit over the threshold, beside treating everyone and no one."""
    prevalence = float(slot.label.mean())
    highest = max(float(np.quantile(slot.probability[model], 0.995)) for model in models)
    threshold = np.linspace(0, min(0.95, max(3 * prevalence, highest)), 121)[1:]
    axes.axhline(0, color=svg.GREY, linewidth=1)
    everyone = prevalence - (1 - prevalence) * threshold / (1 - threshold)
    axes.plot(threshold, everyone, color=svg.GREY, linewidth=1, linestyle="--")
    axes.annotate("treat all", (prevalence, 0), (2, -10), textcoords="offset points", color=svg.GREY, fontsize=8)
    for colour, model in zip(svg.ORDER, models, strict=False):
        axes.plot(threshold, curves.net_benefit(slot.probability[model], slot.label, threshold), color=colour)
    axes.set(title="Decision curve", xlabel="Threshold probability", ylabel="Net benefit")
    axes.set(xlim=(0, threshold[-1]), ylim=(-0.2 * prevalence, 1.08 * prevalence))


def draw_groups(axes: Axes, groups: pl.DataFrame) -> None:
    """Draw the AUROC of each subgroup with its interval."""
    rows = groups.filter(metric="auroc")
    estimable = rows.filter(pl.col("value").is_not_null())
    names = [f"{words(a)} {g} ({p} of {n:,})" for a, g, p, n in rows.select(*GROUP, "positives", "count").rows()]
    place = np.array([at for at, value in enumerate(rows["value"]) if value is not None], np.float64)
    spread(axes, estimable, place, svg.ORDER[0], "AUROC")
    for at, value in enumerate(rows["value"]):
        if value is None:
            axes.text(0.5, at, "not estimable", transform=axes.get_yaxis_transform(), va="center", color=svg.GREY)
    axes.axvline(0.5, color=svg.GREY, linewidth=1, linestyle=":")
    axes.set_yticks(range(len(names)), names, fontsize=8 if len(names) < 14 else 6)
    axes.set_ylim(max(len(names), 1) - 0.4, -0.6)
    low = estimable["lower"].drop_nans().min() if len(estimable) else None
    axes.set_xlim(min(0.45, float(low) - 0.02) if isinstance(low, float) else 0.45, 1)
    axes.grid(visible=False, axis="y")
    axes.set_title("AUROC by subgroup (positives of samples)")


GROUP = ("attribute", "group")


def learning(found: Sequence[Curve]) -> str:
    """Draw the learning curves, a panel a metric of each run."""
    panels = [
        (curve.name, name, own.sort("step"))
        for curve in found
        for (name,), own in curve.rows.group_by(["metric"], maintain_order=True)
        if len(own) > 1 and not str(name).startswith(("lr-", "speed/"))
    ]
    if not panels:
        return ""
    with mpl.rc_context(svg.STYLE):
        rows = -(-len(panels) // 3)
        figure = svg.new(11.5, 2.7 * rows)
        for at, (run, name, own) in enumerate(panels):
            axes = figure.add_subplot(rows, min(3, len(panels)), at + 1)
            marks: dict[str, Any] = {"marker": "o", "markersize": 3} if len(own) < 40 else {}
            axes.plot(own["step"].to_numpy(), own["value"].to_numpy(), color=svg.ORDER[0], linewidth=1.2, **marks)
            axes.set(title=f"{run}: {name}", xlabel="Step")
    return svg.render(figure, "Learning curves")


def attrition(frame: pl.DataFrame) -> str:
    """Draw, for each outcome, how many samples were kept and how many each rule removed."""
    held = frame.filter(pl.col("outcome").is_not_null(), pl.col("rule") != "candidates")
    outcomes = held["outcome"].unique(maintain_order=True).to_list()
    if not outcomes:
        return ""
    rules = ["kept", *(rule for rule in held["rule"].unique(maintain_order=True) if rule != "kept")]
    shades = [svg.ORDER[0], "#c9d1d9", "#e0a458", "#b4656f", "#8fb996", "#a393bf", "#d8c99b"]
    with mpl.rc_context(svg.STYLE):
        figure = svg.new(11.5, 0.9 + 0.26 * len(outcomes))
        axes = figure.add_subplot()
        left = np.zeros(len(outcomes))
        for number, rule in enumerate(rules):
            found = dict(held.filter(rule=rule).select("outcome", "samples").rows())
            width = np.array([found.get(outcome, 0) for outcome in outcomes], np.float64)
            if width.any():
                axes.barh(outcomes, width, left=left, height=0.7, color=shades[number % 7], label=words(rule))
            left += width
        axes.set_yticks(range(len(outcomes)), [words(outcome) for outcome in outcomes])
        axes.set_ylim(len(outcomes) - 0.5, -0.5)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("Samples of all splits")
        figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=len(rules))
    return svg.render(figure, "Attrition: samples kept, and removed by each rule")
