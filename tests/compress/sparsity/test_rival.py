"""llm-compressor's weights bit for bit in reference mode, and its masks from the same activations."""

import json
import os
import subprocess

import pytest

from tests.benchmarks.compress.sparsegpt import RIVAL
from tests.docs import ROOT


@pytest.mark.slow
@pytest.mark.parametrize("shape", ["256x128", "200x96"])
def test_the_same_weights_and_masks(shape):
    if not RIVAL.is_file():
        pytest.skip("needs llm-compressor in an environment of its own: make runs/llmcompressor")
    found = subprocess.run(
        [RIVAL, "-m", "tests.benchmarks.compress.rival", shape, "--tokens", "2000"],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True, capture_output=True, text=True,
    )  # fmt: skip
    for held in json.loads(found.stdout.splitlines()[-1])["agreement"].values():
        assert held["equal"]
        assert held["masks"] >= 0.999
        assert held["masks_by_default"] >= 0.99
