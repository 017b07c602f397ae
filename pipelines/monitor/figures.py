"""Figures of the page as inline SVG, drawn by hand: where a hospital watches there is no matplotlib."""

import math
from collections.abc import Sequence

import numpy as np

from ehr.metrics.curves import Reliability
from ehr.quality.digest import FEW, Counts
from ehr.quality.noise import Question

BEFORE, NOW, INK, GREY = "#c3ccd6", "#0072B2", "#1b1f24", "#59636e"
ALARM = "#b04a00"


def folded(seen: Counts, cuts: Sequence[float]) -> Counts:
    """Return counts over fewer cuts, all of which the counts have."""
    ends = np.cumsum([0, *seen.patients])[[0, *(seen.cuts.index(cut) + 1 for cut in cuts), len(seen.patients)]]
    return Counts(tuple(cuts), tuple(np.diff(ends).tolist()))


def shares(counts: Counts) -> list[float]:
    """Return the share of each bin; of 1 to 9 patients none is drawn."""
    whole = max(1, sum(counts.patients))
    return [number / whole if number >= FEW else 0.0 for number in counts.patients]


def trimmed(
    before: Sequence[float], now: Sequence[float], names: Sequence[str]
) -> tuple[list[float], list[float], list[str]]:
    """Leave out empty bins at both ends."""
    there = [i for i, pair in enumerate(zip(before, now, strict=True)) if any(pair)] or [0]
    kept = slice(there[0], there[-1] + 1)
    return list(before[kept]), list(now[kept]), list(names[kept])


def histogram(reference: Counts, seen: Counts, title: str) -> str:
    """Draw two groups bin by bin, as shares of each."""
    names = [f"≤ {short(cut)}" for cut in reference.cuts] + [f"> {short(reference.cuts[-1])}"]
    before, now, names = trimmed(shares(reference), shares(folded(seen, reference.cuts)), names)
    width, height, left, low = 400, 190, 46, 150
    most = max(0.01, *before, *now)
    step = (width - left - 10) / len(names)
    drawn = [grid(left, width, low, most)]
    for i, (old, new) in enumerate(zip(before, now, strict=True)):
        for share, colour, shift in ((old, BEFORE, 0.08), (new, NOW, 0.5)):
            tall = 125 * share / most
            drawn.append(
                f'<rect x="{left + (i + shift) * step:.1f}" y="{low - tall:.1f}" width="{0.42 * step:.1f}" '
                f'height="{tall:.1f}" fill="{colour}"/>'
            )
        if i % math.ceil(len(names) / 6) == 0:
            drawn.append(text(left + (i + 0.5) * step, low + 16, names[i], anchor="middle"))
    return svg(width, height, title, drawn)


def grid(left: float, width: float, low: float, most: float) -> str:
    """Draw three lines of shares."""
    lines = ""
    for part in (0, 0.5, 1):
        y = low - 125 * part
        lines += f'<line x1="{left}" x2="{width - 10}" y1="{y}" y2="{y}" stroke="#e6eaee"/>'
        lines += text(left - 5, y + 4, f"{100 * most * part:.0f} %", anchor="end")
    return lines


def scatter(asked: Sequence[Question], alarms: set[str], title: str) -> str:
    """Draw the share of patients with each code, then and now, on logarithmic axes."""
    size, left, low = 380, 48, 340
    least = 1e-3

    def place(share: float) -> float:
        return (math.log10(max(share, least)) - math.log10(least)) / -math.log10(least)

    drawn = [f'<line x1="{left}" y1="{low}" x2="{size - 10}" y2="10" stroke="{GREY}" stroke-dasharray="2 3"/>']
    for share in (0.001, 0.01, 0.1, 1.0):
        x, y = left + place(share) * (size - 10 - left), low - place(share) * (low - 10)
        drawn.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="10" y2="{low}" stroke="#e6eaee"/>')
        drawn.append(f'<line x1="{left}" x2="{size - 10}" y1="{y:.1f}" y2="{y:.1f}" stroke="#e6eaee"/>')
        drawn += [
            text(x, low + 16, f"{100 * share:g} %", anchor="middle"),
            text(left - 5, y + 4, f"{100 * share:g} %", anchor="end"),
        ]
    for held in sorted(asked, key=lambda one: one.name in alarms):
        if 0 < held.seen_of - held.seen_below < FEW:
            continue
        x, y = left + place(held.share) * (size - 10 - left), low - place(held.seen_share) * (low - 10)
        colour, radius = (ALARM, 4) if held.name in alarms else (NOW, 2.5)
        drawn.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{colour}" fill-opacity="0.6"/>')
    return svg(size + 16, low + 30, title, drawn)


def reliability(found: Reliability, title: str) -> str:
    """Draw observed frequencies with their intervals over predicted ones."""
    size, left, low = 260, 40, 220
    most = max(0.02, float(found.upper.max()), float(found.expected.max()))

    def at(x: float, y: float) -> tuple[float, float]:
        return left + x / most * (size - 10 - left), low - y / most * (low - 10)

    drawn = [f'<line x1="{left}" y1="{low}" x2="{size - 10}" y2="10" stroke="{GREY}" stroke-dasharray="2 3"/>']
    for part in (0, 0.5, 1):
        x, y = at(part * most, part * most)
        drawn += [
            text(x, low + 16, f"{100 * part * most:.0f} %", anchor="middle"),
            text(left - 5, y + 4, f"{100 * part * most:.0f} %", anchor="end"),
        ]
    for expected, observed, lower, upper in zip(*found, strict=True):
        x, y = at(float(expected), float(observed))
        top, bottom = at(0, float(upper))[1], at(0, float(lower))[1]
        drawn.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top:.1f}" y2="{bottom:.1f}" stroke="{NOW}"/>')
        drawn.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{NOW}"/>')
    return svg(size + 16, low + 26, title, drawn)


def text(x: float, y: float, content: str, *, anchor: str) -> str:
    """Return one label."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="11" fill="{GREY}">{content}</text>'


def svg(width: float, height: float, title: str, drawn: Sequence[str]) -> str:
    """Return the element; the title is for those who cannot see it and holds no code of a record."""
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{title}">{"".join(drawn)}</svg>'


def short(number: float) -> str:
    """Return a number in few digits."""
    return f"{number:.3g}" if abs(number) < 1000 else f"{number:,.0f}"
