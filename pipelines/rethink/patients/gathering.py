"""From a run and a cohort to tables: who is asked, which futures are drawn, which neighbours are found."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from ehr.grammar import Grammar
from ehr.model import Anamnesis
from ehr.splits import fraction_of
from ehr.timelines import Sample, Timelines, cut
from pipelines import artefacts
from pipelines.cohort import Cohort, timelines
from pipelines.predict import load_network
from pipelines.preparation import PARENTS
from pipelines.progress import Track
from pipelines.rethink.patients.asking import Asked, pool_of, slots_of, window_of, with_history
from pipelines.rethink.patients.cases import Stored, World
from pipelines.rethink.patients.contradictions import rules_of
from pipelines.rethink.patients.drawing import FUTURES, VALUES, drawn
from pipelines.rethink.patients.evidence import NEIGHBOURS, Pool, neighbours
from pipelines.rethink.patients.settings import Rethinking
from pipelines.rethink.patients.steps import ahead_of, steps_of

Ints = npt.NDArray[np.int64]
FILES = {"futures.parquet": FUTURES, "values.parquet": VALUES, "neighbours.parquet": NEIGHBOURS}


class Model(NamedTuple):
    """A network that generates, and how much of a record it reads."""

    network: Anamnesis
    max_length: int

    @property
    def rules(self) -> Grammar:
        """The grammar of its futures."""
        return self.network.rules()


def model_of(run: Path, cohort: Cohort) -> Model:
    """Open a run.

    Raises:
        ValueError: it is no run, was trained on another vocabulary, or not to generate.
    """
    manifest = artefacts.read_manifest(run, "run")
    if manifest["vocabulary"] != cohort.vocabulary.digest:
        raise ValueError(f"{run}: was trained with another vocabulary; prepare the cohort with --vocabulary of the run")
    network = load_network(run)
    if not network.config.time_bins:
        raise ValueError(
            f"{run}: was not trained to generate; expected a run pretrained with model.objective permuted_ce"
        )
    return Model(network, int(manifest["max_length"]))


def world_of(cohort: Cohort, model: Model, settings: Rethinking) -> tuple[World, dict[str, str]]:
    """Return what all patients share, and the windows that are left out, with the reason.

    Raises:
        ValueError: no window is left, or no training patient is followed over them.
    """
    above: dict[str, list[str]] = json.loads((cohort.path / PARENTS).read_text(encoding="utf-8"))
    parents = {code: tuple(chain) for code, chain in above.items()}
    slots, left = slots_of(cohort.registry, cohort.vocabulary, model.rules, settings, parents)
    source, days = timelines(cohort), window_of(slots)
    step = steps_of(cohort.vocabulary, model.rules, settings.rare)
    pool = pool_of(cohort, slots, source)
    rules = rules_of(cohort.vocabulary, settings.contradictions)
    return World(source, Pool(pool, ahead_of(source, pool, step, days)), step, rules, slots, days), left


def chosen(asked: Asked, most: int | None, seed: int) -> Asked:
    """Return the prediction times of so many patients, chosen by a hash of seed and subject; all where None."""
    subjects = np.unique(asked.subject)
    if most is None or len(subjects) <= most:
        return asked
    order = sorted(subjects.tolist(), key=lambda subject: (fraction_of(subject, seed), subject))
    return asked.take(np.flatnonzero(np.isin(asked.subject, order[:most])))


def latest(asked: Asked) -> Asked:
    """Return the latest prediction time of each patient."""
    return asked.take(np.flatnonzero(np.diff(asked.subject, append=-1) != 0))


def divided(asked: Asked, source: Timelines) -> tuple[Asked, Asked]:
    """Return those with a record at the time asked, and those without."""
    there = with_history(asked, source)
    return asked.take(there), asked.take(np.setdiff1d(np.arange(len(asked.subject)), there))


def samples_of(asked: Asked, source: Timelines, max_length: int) -> list[Sample]:
    """Return the records of Q patients up to their prediction times."""
    pairs = zip(asked.subject.tolist(), asked.time.tolist(), strict=True)
    return [cut(source.record(subject), time, max_length=max_length) for subject, time in pairs]


def gathered(model: Model, samples: Sequence[Sample], world: World, settings: Rethinking) -> Stored:
    """Draw futures of records and find their neighbours."""
    futures, values = drawn(model.network, samples, world.slots, world.days, settings)
    with Track("embedding records, patients", len(samples) + len(world.pool.asked.subject)) as bar:
        near = neighbours(model.network, samples, world.pool.asked, world.source, settings.neighbours, model.max_length)
        bar.advance(len(samples) + len(world.pool.asked.subject))
    return Stored(futures, values, near)


def write(stored: Stored, folder: Path) -> None:
    """Write the three tables."""
    for name, frame in zip(FILES, stored, strict=True):
        frame.write_parquet(folder / name)


def read(folder: Path) -> Stored:
    """Read the tables that an earlier run left.

    Raises:
        ValueError: one is missing or has other columns.
    """
    found: list[pl.DataFrame] = []
    for name, schema in FILES.items():
        try:
            frame = pl.read_parquet(folder / name)
        except (pl.exceptions.PolarsError, OSError) as error:
            why = str(error).splitlines()[0][:100]
            raise ValueError(f"{folder / name}: cannot be read ({why}); give a folder of rethink patients") from None
        if frame.schema != schema:
            raise ValueError(f"{folder / name}: expected the columns {', '.join(schema.names())}")
        found.append(frame)
    return Stored(*found)
