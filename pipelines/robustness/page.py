"""The page of a robustness report: a figure of AUROC by corruption and severity, and the tables behind it."""

from collections.abc import Mapping
from importlib import resources
from typing import Any

import matplotlib as mpl
import polars as pl
from jinja2 import Environment, StrictUndefined

from ehr.report import svg
from ehr.shifts.catalogue import TEST

COLUMNS = 5


def words(name: str) -> str:
    """Return a name as words."""
    return name.replace("_", " ")


def ratio(value: float | None) -> str:
    """Return a number in three digits, nothing where there is none."""
    return "" if value is None else f"{value:.3f}"


def ranged(one: Mapping[str, float]) -> str:
    """Return a value with its interval."""
    return f"{one['value']:.3f} ({one['lower']:.3f} to {one['upper']:.3f})"


def render(found: Mapping[str, Any], passes: pl.DataFrame | None) -> str:
    """Return the page, HTML in one file.

    Args:
        found: content of report.json.
        passes: PASSES, where the grid was run.
    """
    environment = Environment(undefined=StrictUndefined, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["words"] = words
    environment.filters["ratio"] = ratio
    environment.filters["ranged"] = ranged
    template = environment.from_string(
        (resources.files("pipelines.robustness") / "page.html.j2").read_text(encoding="utf-8")
    )
    rows = [] if passes is None else passes.filter(model="model").to_dicts()
    figure = "" if passes is None else svg.render(curves(passes), "AUROC by corruption and severity")
    units = {name: one.unit for name, one in TEST.items()}
    levels = {name: one.levels for name, one in TEST.items()}
    return template.render(found=found, rows=rows, figure=figure, units=units, levels=levels)


def curves(passes: pl.DataFrame) -> Any:  # noqa: ANN401  a figure of matplotlib
    """Draw AUROC over severity, a panel a corruption; the model and the reference."""
    names = [name for name in passes["corruption"].unique(maintain_order=True).to_list() if name != "clean"]
    lines = -(-len(names) // COLUMNS)
    low, high = float(passes["auroc_lower"].min()), float(passes["auroc_upper"].max())  # pyright: ignore[reportArgumentType]
    with mpl.rc_context(svg.STYLE):
        figure = svg.new(11, 1 + 1.9 * lines)
        panels = figure.subplots(lines, COLUMNS, sharex=True, sharey=True, squeeze=False).ravel()
        for panel, name in zip(panels, names, strict=False):
            for colour, model in zip(svg.ORDER, ("model", "reference"), strict=False):
                own = passes.filter(pl.col("corruption").is_in(["clean", name]) & (pl.col("model") == model))
                own = own.sort("severity")
                if len(own):
                    panel.plot(own["severity"], own["auroc"], color=colour, marker="o", markersize=3, label=model)
                    panel.fill_between(
                        own["severity"], own["auroc_lower"], own["auroc_upper"], color=colour, alpha=0.15
                    )
            panel.set_title(words(name))
            panel.set_ylim(low - 0.03, high + 0.03)
            panel.set_xticks(range(6))
        for panel in panels[len(names) :]:
            panel.set_axis_off()
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper right", ncols=2)
        figure.supxlabel("severity; 0 is the record as it is")
        figure.supylabel("mean AUROC")
    return figure
