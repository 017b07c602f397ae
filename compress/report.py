"""What a compression did: layer by layer, and bytes before and after.  No torch."""

import json
import math
from collections.abc import Mapping
from typing import Any, NamedTuple


class Sizes(NamedTuple):
    """Bytes of a model or of some of its layers, by form.

    Attributes:
        raw: as its numbers are stored in full, fp32.
        packed: codes packed to whole bytes (2 bits, trits, bitmaps), scales included.
        zstd: after zstd, level 19.
        entropy: the bound of any coder that takes weights one by one, scales included.
    """

    raw: int
    packed: int
    zstd: int
    entropy: float


class Layer(NamedTuple):
    """One layer after compression.

    Attributes:
        name: of the module.
        kind: linear, conv1d, conv2d or embedding.
        rows: outputs.
        columns: inputs.
        zeros: entries that are exactly 0.
        bits: of a kept weight: 32, or of the grid.
        error: ||X(W-W')^T||^2 / ||XW^T||^2 on calibration inputs; NaN where there were none.
        held_out_error: the same on rows held out, of weights that were fitted without them; NaN where none were.
        damping: added to the diagonal of the Hessian, as a share of its mean; 0 where no Hessian was factored.
        recovery: what was done for the weights that were kept: none, refit, mean, bias, ...
    """

    name: str
    kind: str
    rows: int
    columns: int
    zeros: int
    bits: int = 32
    error: float = math.nan
    held_out_error: float = math.nan
    damping: float = 0.0
    recovery: str = "none"

    @property
    def sparsity(self) -> float:
        """Share of entries that are exactly 0."""
        return self.zeros / (self.rows * self.columns)


class CompressionReport(NamedTuple):
    """A compression, for people and for the manifest of a run.

    Attributes:
        method: sparsegpt, wanda, magnitude, ternary, ...
        settings: as given, plain values.
        layers: in the order in which they were compressed.
        tokens: calibration tokens counted (padding left out), of the layer that saw most.
        sizes: by `layers before`, `layers after`, `model before`, `model after`; empty where not measured.
    """

    method: str
    settings: Mapping[str, Any]
    layers: tuple[Layer, ...]
    tokens: int = 0
    sizes: Mapping[str, Sizes] = {}

    @property
    def sparsity(self) -> float:
        """Share of entries of the compressed layers that are exactly 0."""
        entries = sum(held.rows * held.columns for held in self.layers)
        return sum(held.zeros for held in self.layers) / entries if entries else 0.0


def to_json(report: CompressionReport) -> dict[str, Any]:
    """Return plain values; NaN becomes null, which JSON can say."""
    layers = [{name: plain(value) for name, value in held._asdict().items()} for held in report.layers]
    sizes = {name: held._asdict() for name, held in report.sizes.items()}
    return {**report._asdict(), "settings": dict(report.settings), "layers": layers, "sizes": sizes}


def from_json(content: Mapping[str, Any]) -> CompressionReport:
    """Read what `to_json` returned.

    Raises:
        ValueError: it is something else.
    """
    try:
        layers = tuple(layer(held) for held in content["layers"])
        sizes = {name: Sizes(**held) for name, held in content["sizes"].items()}
        fields: dict[str, Any] = {**content, "layers": layers, "sizes": sizes}
        return CompressionReport(**fields)
    except (KeyError, TypeError, AttributeError):
        raise ValueError("not a report of compression; make it again with anamnesis compress") from None


def layer(content: Mapping[str, Any]) -> Layer:
    """Read one layer; null is NaN."""
    fields: dict[str, Any] = {name: math.nan if value is None else value for name, value in content.items()}
    return Layer(**fields)


def plain(value: Any) -> Any:  # noqa: ANN401  a field of Layer
    """Return a value that JSON can say."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def dumps(report: CompressionReport) -> bytes:
    """Return JSON with sorted keys, so that equal reports have equal bytes."""
    return (json.dumps(to_json(report), indent=2, sort_keys=True, allow_nan=False) + "\n").encode()


def lines(report: CompressionReport) -> list[str]:
    """Return the report as a table of text: sizes of the whole model first, then layer by layer."""
    told = [f"{report.method}: {len(report.layers)} layers, {report.sparsity:.1%} zeros, {report.tokens:,} tokens"]
    for name in sorted(report.sizes, reverse=True):
        size = report.sizes[name]
        told.append(
            f"{name}: raw {size.raw:,}, packed {size.packed:,}, zstd {size.zstd:,}, entropy {size.entropy:,.0f} bytes"
        )
    width = max([len(held.name) for held in report.layers] or [5])
    told.append(f"{'layer':<{width}}  rows x columns   zeros  bits     error  held out  damping  recovery")
    for held in report.layers:
        shape = f"{held.rows} x {held.columns}"
        told.append(
            f"{held.name:<{width}}  {shape:>14}  {held.sparsity:6.1%}  {held.bits:>4}  {number(held.error)}  "
            f"{number(held.held_out_error)}  {held.damping:>7g}  {held.recovery}"
        )
    return told


def number(value: float) -> str:
    """Return an error as text of one width."""
    return f"{value:8.5f}" if math.isfinite(value) else " " * 7 + "-"
