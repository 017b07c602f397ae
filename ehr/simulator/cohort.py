"""Cohorts: blocks of patients, each drawn from numbers of its own, as events and true risks."""

from typing import NamedTuple

from ehr.simulator import records
from ehr.simulator.course import Course, course, generator
from ehr.simulator.visits import Visits, visits

MECHANISMS = ("semi_markov",)
MOST_PATIENTS = 2**40


class Block(NamedTuple):
    """What was drawn for one block of patients."""

    course: Course
    visits: Visits
    written: records.Written


def draw_block(seed: int, block: int) -> Block:
    """Draw one block of patients."""
    draw = generator(seed, block)
    lives = course(block, draw)
    seen = visits(lives, draw)
    return Block(lives, seen, records.write(lives, seen, draw))
