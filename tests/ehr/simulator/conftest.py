"""A small cohort, drawn once."""

import pytest

from ehr.simulator import blocks, cohort, records
from ehr.simulator.truth import truth

SEED = 11


@pytest.fixture(scope="package")
def drawn():
    """Return some blocks."""
    return [blocks.draw(SEED, number) for number in range(6)]


@pytest.fixture(scope="package")
def shards(drawn):
    """Return the events of each block."""
    return [records.events(block.course, block.written.rows) for block in drawn]


@pytest.fixture(scope="package")
def truths(drawn):
    """Return the true risks of each block."""
    return [truth(block) for block in drawn]


@pytest.fixture(scope="package")
def small():
    """Return events and true risks of 1,500 patients, a block and a half."""
    return cohort.cohort(1_500, seed=SEED)
