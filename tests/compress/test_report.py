"""A report says the same after a way through JSON, and stays readable where nothing was measured."""

import json
import math

import pytest

from compress.report import CompressionReport, Layer, Sizes, dumps, from_json, lines

LAYERS = (
    Layer("a.first", "linear", 4, 6, zeros=12, error=0.25, held_out_error=0.5, damping=0.01, recovery="refit"),
    Layer("b", "embedding", 10, 2, zeros=0, bits=8),
)
REPORT = CompressionReport("sparsegpt", {"sparsity": 0.5}, LAYERS, 128, {"model after": Sizes(400, 40, 30, 29.5)})


def test_there_and_back():
    again = from_json(json.loads(dumps(REPORT)))
    assert math.isnan(again.layers[1].error)
    assert dumps(again) == dumps(REPORT)
    assert again.layers[0] == REPORT.layers[0]
    assert again.sizes == REPORT.sizes


def test_shares_of_zeros():
    assert REPORT.layers[0].sparsity == 0.5
    assert REPORT.sparsity == 12 / 44
    assert CompressionReport("none", {}, ()).sparsity == 0


def test_a_table_with_the_whole_model_first():
    told = lines(REPORT)
    assert told[1].startswith("model after: raw 400, packed 40, zstd 30")
    assert "0.25000" in told[3]
    assert " - " in told[4]


@pytest.mark.parametrize("content", [{}, {"layers": [1], "sizes": {}}, {"layers": [{"other": 1}], "sizes": {}}])
def test_something_else_is_refused(content):
    with pytest.raises(ValueError, match="not a report of compression"):
        from_json(content)
