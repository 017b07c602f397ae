"""What the report draws once: an overview of all outcomes, learning curves, attrition."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import polars as pl
from matplotlib.axes import Axes

from ehr.metrics.resampling import Floats
from ehr.metrics.scores import MACRO
from ehr.report import svg
from ehr.report.names import removed, words
from ehr.report.panels import spread

MANY = 40
"""Points from which a learning curve is smoothed."""
SHADES = ("#0072B2", "#c3ccd6", "#E69F00", "#56B4E9", "#CC79A7", "#7a8792", "#009E73")
"""Of what was kept, then of each rule."""


class Curve(NamedTuple):
    """A learning curve: whose, and step, epoch, metric and value."""

    name: str
    rows: pl.DataFrame


def overview(scores: pl.DataFrame, models: Sequence[str]) -> str:
    """Draw AUROC and AUPRC with intervals of all models, a line each outcome and horizon; empty without any."""
    held = scores.filter(pl.col("outcome") != MACRO, pl.col("value").is_not_null())
    keys = held.select("outcome", "horizon_days").unique(maintain_order=True).rows()
    if not keys:
        return ""
    with mpl.rc_context(svg.STYLE):
        figure = svg.new(11.5, 1.3 + 0.36 * len(keys))
        for at, (metric, title) in enumerate((("auroc", "AUROC"), ("auprc", "AUPRC"))):
            axes = figure.add_subplot(1, 2, at + 1)
            for number, model in enumerate(models):
                rows = held.filter(metric=metric, model=model)
                place = np.array([keys.index(key) for key in rows.select("outcome", "horizon_days").rows()])
                spread(axes, rows, place + (number - (len(models) - 1) / 2) * 0.24, number, words(model))
            if metric == "auprc":
                chance = held.filter(metric=metric, model=models[0])["prevalence"].to_numpy()
                shown: dict[str, Any] = {"marker": "|", "s": 130, "linewidth": 1.8, "color": svg.INK}
                axes.scatter(chance, np.arange(len(chance)), label="Prevalence (AUPRC of chance)", **shown)
                axes.set_xlim(left=0)
            else:
                axes.axvline(0.5, color=svg.GREY, linewidth=1, linestyle=":")
            stripes(axes, keys)
            axes.set_yticks(range(len(keys)), [f"{words(name)}, {days} d" for name, days in keys] if not at else [])
            axes.tick_params(axis="y", length=0)
            axes.set_ylim(len(keys) - 0.5, -0.5)
            axes.set_title(title)
            axes.grid(visible=False, axis="y")
        handles = figure.axes[-1].get_legend_handles_labels()
        figure.legend(*handles, loc="outside upper center", ncols=len(models) + 1)
    return svg.render(figure, "AUROC and AUPRC of all models by outcome and horizon")


def stripes(axes: Axes, keys: Sequence[tuple[str, int]]) -> None:
    """Shade every other outcome, so that its horizons are seen to belong together."""
    names = list(dict.fromkeys(name for name, _ in keys))
    for at, (name, _) in enumerate(keys):
        if names.index(name) % 2:
            axes.axhspan(at - 0.5, at + 0.5, color="#f3f5f8", linewidth=0, zorder=0)


def learning(found: Sequence[Curve]) -> str:
    """Draw the learning curves, a panel a metric of each run."""
    panels = [
        (curve.name, str(name), own.sort("step"))
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
            draw_curve(axes, own["step"].to_numpy(), own["value"].to_numpy(), dots=name.startswith("tuning/"))
            axes.set(title=f"{run}: {words(name)}", xlabel="Step")
            if name.endswith("/auroc"):
                mark_best(axes, own["step"].to_numpy(), own["value"].to_numpy())
    return svg.render(figure, "Learning curves")


def draw_curve(axes: Axes, step: Floats, value: Floats, *, dots: bool) -> None:
    """Draw one curve: its points where they are few, else its running mean over them."""
    if dots or len(value) < MANY:
        axes.plot(step, value, color=svg.ORDER[0], linewidth=1.2, marker="o", markersize=3)
        return
    width = max(3, len(value) // 12)
    total = np.cumsum(np.concatenate([[0.0], value]))
    end = np.arange(1, len(value) + 1)
    begin = np.maximum(0, end - width)
    axes.plot(step, value, color=svg.ORDER[0], linewidth=0.7, alpha=0.35)
    axes.plot(step, (total[end] - total[begin]) / (end - begin), color=svg.ORDER[0], linewidth=1.6)


def mark_best(axes: Axes, step: Floats, value: Floats) -> None:
    """Ring the highest point, whose weights are kept."""
    at = int(np.argmax(value))
    axes.scatter(step[at], value[at], s=70, facecolor="none", edgecolor=svg.ORDER[1], linewidth=1.5, zorder=4)
    side: dict[str, Any] = {"ha": "right", "xytext": (-8, -3)} if at > len(step) / 2 else {"xytext": (8, -3)}
    axes.annotate("kept", (step[at], value[at]), textcoords="offset points", color=svg.DARK, fontsize=8, **side)


def attrition(frame: pl.DataFrame) -> str:
    """Draw, for each outcome, how many samples were kept and how many each rule removed."""
    held = frame.filter(pl.col("outcome").is_not_null(), pl.col("rule") != "candidates")
    outcomes = held["outcome"].unique(maintain_order=True).to_list()
    if not outcomes:
        return ""
    rules = ["kept", *(rule for rule in held["rule"].unique(maintain_order=True) if rule != "kept")]
    with mpl.rc_context(svg.STYLE):
        figure = svg.new(11.5, 0.9 + 0.26 * len(outcomes))
        axes = figure.add_subplot()
        left = np.zeros(len(outcomes))
        for number, rule in enumerate(rules):
            found = dict(held.filter(rule=rule).select("outcome", "samples").rows())
            width = np.array([found.get(outcome, 0) for outcome in outcomes], np.float64)
            if width.any():
                shown: dict[str, Any] = {"color": SHADES[number % len(SHADES)], "label": removed(rule)}
                axes.barh(range(len(outcomes)), width, left=left, height=0.7, **shown)
            left += width
        kept = dict(held.filter(rule="kept").select("outcome", "samples").rows())
        for at, (outcome, total) in enumerate(zip(outcomes, left, strict=True)):
            text = f"{100 * kept.get(outcome, 0) / total:.0f} % of {total:,.0f}" if total else "none"
            axes.annotate(text, (total, at), (4, 0), textcoords="offset points", va="center", fontsize=8)
        axes.set_yticks(range(len(outcomes)), [words(outcome) for outcome in outcomes])
        axes.set_ylim(len(outcomes) - 0.5, -0.5)
        axes.set_xlim(0, 1.14 * max(1.0, float(left.max())))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("Prediction times, all splits")
        figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=min(4, len(rules)))
    return svg.render(figure, "Attrition: samples kept, and removed by each rule")
