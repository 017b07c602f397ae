"""The benchmarks' own parts: files of figures, runs in turn, intervals, memory of a process tree."""

import json
import sys

import numpy as np
import pytest

from tests.benchmarks import figures, harness, packing
from tests.benchmarks.harness import Figure, in_turn, mean_of, measured, ratio_of

FIELDS = {
    "name", "value", "unit", "rival", "rival_value", "ratio", "lower", "upper", "count", "seeds", "command",
    "versions", "cores", "processor_flags", "date", "note",
}  # fmt: skip
MIB = 2**20
CHILD = """
import os, sys, time
held = bytearray(os.urandom(1)) * ({megabytes} * 2**20)
if {children}:
    import subprocess
    subprocess.run([sys.executable, "-c", {code!r}], check=True)
time.sleep(0.5)
print("done", len(held))
"""


def figure(**fields):
    settings = {"name": "topic.speed_ratio", "value": 2.5, "unit": "ratio", "command": "python -m tests.benchmarks.x"}
    return Figure(**settings | fields)


def test_a_figure_is_a_file_with_every_field(tmp_path):
    path = figure(seeds=(1, 2), lower=2.0, upper=3.0, count=10).write(tmp_path)
    held = json.loads(path.read_text())
    assert path.name == "topic.speed_ratio.json"
    assert set(held) == FIELDS
    assert held["seeds"] == [1, 2]
    assert held["versions"]["numpy"] == np.__version__
    assert held["cores"] >= 1
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_arms_take_turns():
    order = []

    def arm(name):
        def run(number):
            order.append((number, name))
            return float(number)

        return run

    found = in_turn({name: arm(name) for name in "abc"}, 3)
    assert [name for _, name in order] == [*"abc", *"bca", *"cab"]
    assert found == {name: [0.0, 1.0, 2.0] for name in "abc"}


def test_intervals():
    # Student's t with 4 degrees of freedom: 2.776 * sqrt(2.5 / 5).
    value, lower, upper = mean_of([1, 2, 3, 4, 5])
    assert (value, lower, upper) == pytest.approx((3, 3 - 1.9629, 3 + 1.9629), abs=1e-3)
    assert mean_of([4.0]) == (4, 4, 4)
    assert ratio_of([2, 4, 8], [1, 2, 4]) == pytest.approx((2, 2, 2))
    value, lower, upper = ratio_of([2, 8], [1, 2])
    assert value == pytest.approx(8**0.5)
    assert lower < 2
    assert upper > 4


@pytest.mark.parametrize("children", [False, True])
def test_memory_counts_the_whole_tree(children, tmp_path, monkeypatch):
    monkeypatch.setattr(harness, "RUNS", tmp_path)
    code = CHILD.format(megabytes=64, children=False, code="")
    run = measured([sys.executable, "-c", CHILD.format(megabytes=64, children=children, code=code)])
    assert "done" in run.output
    assert run.seconds > 0.5
    expected = 128 if children else 64
    assert expected * MIB < run.peak_bytes < (expected + 60) * MIB


def test_a_failed_command_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(harness, "RUNS", tmp_path)
    with pytest.raises(RuntimeError, match="ended with 3"):
        measured([sys.executable, "-c", "print('why'); raise SystemExit(3)"])
    assert measured([sys.executable, "-c", "raise SystemExit(3)"], allowed=(0, 3)).seconds > 0


def test_the_page_holds_every_figure(tmp_path):
    figure(rival="others", rival_value=2.0, lower=2.0, upper=3.0, count=1000, note="a note").write(tmp_path)
    figure(name="other.seconds", value=1234.5, unit="s").write(tmp_path)
    text = figures.page(figures.read(tmp_path))
    assert "## other" in text
    assert "[`topic.speed_ratio`](figures/topic.speed_ratio.json) | 2.5 | 2 to 3 | others: 2 |" in text
    assert "1,234 s" in text
    assert "n = 1,000. a note." in text


@pytest.mark.parametrize("arm", ["padded", "bucketed"])
def test_rivals_of_packing_hold_every_sample_once(arm):
    held = packing.lengths(500, 3)
    assert held.min() >= 4
    assert held.max() <= 512
    assert 50 < np.median(held) < 80
    draw = np.random.default_rng(1)
    rival = packing.bucketed(held, 4096, draw)
    layouts = rival if arm == "bucketed" else list(packing.padded(draw.permutation(500), held, 32))
    assert sorted(at for layout in layouts for at in layout.order) == list(range(500))
    for layout in layouts:
        assert layout.width == max(held[at] for at in layout.order)
        assert all(len(row) == 1 for row in layout.rows)
        assert len(layout.rows) <= 32 or arm == "bucketed"
    if arm == "bucketed":
        assert max(layout.width * len(layout.rows) for layout in layouts) <= 4096
        assert packing.padding(layouts, held) < 0.15
