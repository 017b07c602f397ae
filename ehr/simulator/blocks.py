"""Blocks of patients, each drawn from random numbers of its own."""

from typing import NamedTuple

from ehr.simulator import records
from ehr.simulator.course import Course, course, generator
from ehr.simulator.visits import Visits, visits


class Block(NamedTuple):
    """What was drawn for one block of patients."""

    course: Course
    visits: Visits
    written: records.Written


def draw(seed: int, block: int) -> Block:
    """Draw one block of patients.

    Args:
        seed: of the cohort.
        block: its number; it holds patients BLOCK * block to BLOCK * (block + 1) - 1.
    """
    numbers = generator(seed, block)
    lives = course(block, numbers)
    seen = visits(lives, numbers)
    return Block(lives, seen, records.write(lives, seen, numbers))
