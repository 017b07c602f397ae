"""Figures of matplotlib as inline SVG: equal figures give equal bytes, and nothing points outside."""

import io
import re
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": "#8a949e",
    "axes.labelcolor": "#3b444d",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6eaee",
    "grid.linewidth": 0.8,
    "xtick.color": "#59636e",
    "ytick.color": "#59636e",
    "legend.frameon": False,
    "svg.hashsalt": "anamnesis",
    "svg.fonttype": "none",
}
ORDER = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#59636e")
"""Colours of models, in their order: those that colour-blind people tell apart (Okabe and Ito 2008)."""
INK, DARK, GREY = "#1b1f24", "#59636e", "#8a949e"
# Names that nothing refers to would stand on the page once a figure.
DROPPED = (
    r"<\?xml.*?\?>",
    r"<!DOCTYPE.*?>",
    r"<!--.*?-->",
    r"<metadata>.*?</metadata>",
    r' xmlns(?::xlink)?="[^"]*"',
    r' id="(?:figure|axes|patch|text|line2d|matplotlib|xtick|ytick|legend|PathCollection|LineCollection|'
    r'FillBetweenPolyCollection|QuadMesh)[^"]*"',
)


def render(figure: Figure, title: str) -> str:
    """Return a figure as an SVG element that takes the width it is given.

    Args:
        figure: drawn within STYLE.
        title: what it shows, for those who cannot see it.
    """
    written = io.StringIO()
    with mpl.rc_context(STYLE):
        figure.savefig(written, format="svg", metadata={"Date": None, "Creator": None})
    text = written.getvalue()
    for pattern in DROPPED:
        text = re.sub(pattern, "", text, flags=re.DOTALL)
    text = re.sub(r'<svg [^>]*?viewBox="([^"]*)"[^>]*>', rf'<svg viewBox="\1" role="img" aria-label="{title}">', text)
    # A hundredth of a point is less than can be seen, and a third of the file. Texts keep their digits.
    text = re.sub(r'="[^"]*"', lambda found: re.sub(r"(\.\d\d)\d+", r"\1", found[0]), text)
    text = text.replace("'DejaVu Sans'", "system-ui, 'DejaVu Sans'").replace("xlink:href", "href")
    return re.sub(r"\n\s*\n+", "\n", re.sub(r"[ \t]+\n", "\n", text)).strip()


def new(width: float, height: float) -> Figure:
    """Return an empty figure, inches, that finds room for its texts; draw on it within STYLE."""
    return Figure(figsize=(width, height), layout="constrained")


def fixed(width: float, height: float) -> Figure:
    """Return an empty figure, inches, whose axes are placed by whoever draws; draw on it within STYLE."""
    return Figure(figsize=(width, height))
