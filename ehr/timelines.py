"""Events to ragged token timelines: pure and causal, memory-mapped on disk, O(1) to a patient."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
from pyarrow import ipc

from ehr.codes import distinct, match
from ehr.events import BIRTH, unfinished
from ehr.vocabulary import Vocabulary

STATIC = -(2**63)
DAY = 86_400_000_000
TIMELINES = pa.schema(
    [
        ("subject_id", pa.int64()),
        ("birth", pa.timestamp("us")),
        ("token", pa.list_(pa.int32())),
        ("visit", pa.list_(pa.int32())),
        ("age_days", pa.list_(pa.float32())),
        ("time", pa.list_(pa.int64())),
    ]
)
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


class Record(NamedTuple):
    """One patient's timeline, as views of N tokens: statics first (visit 0, time STATIC), then by time."""

    subject: int
    token: npt.NDArray[np.int32]
    visit: npt.NDArray[np.int32]
    age_days: npt.NDArray[np.float32]
    time: npt.NDArray[np.int64]
    birth: int | None


class Sample(NamedTuple):
    """One patient up to one prediction time (microseconds since 1970): what the model may see."""

    subject: int
    prediction_time: int
    token: npt.NDArray[np.int32]
    visit: npt.NDArray[np.int32]
    age_days: npt.NDArray[np.float32]
    query_age_days: float


def build(events: pl.DataFrame, vocabulary: Vocabulary) -> pa.Table:
    """Turn events into timelines.

    Causal: events after a time change nothing of the tokens before it.

    Args:
        events: EVENTS in canonical order, all rows of a subject together.
        vocabulary: codes, bins and the settings of tokenising.

    Returns:
        TIMELINES, one row a subject in the order of events; a subject without tokens has empty lists.
    """
    subject = events["subject_id"].to_numpy()
    time = events["time"].to_physical().fill_null(STATIC).to_numpy()
    names, position = distinct(events["code"])

    starts = run_starts(subject)
    run = np.cumsum(starts) - 1
    birth, known = births(time, position == _index(names, BIRTH), run, int(starts.sum()))
    visit = visits(time, position, names, run, vocabulary.settings.visit_gap_days)
    value = events["numeric_value"].fill_null(np.nan).to_numpy()
    token = vocabulary.encode_positions(names, position, value)

    keep = ~np.array(match(names, vocabulary.settings.exclude), dtype=bool)[position]
    if vocabulary.settings.deduplicate:
        once = first_in_visit(starts, visit, token, keep, vocabulary.size)
        if vocabulary.settings.changes:
            once |= changed(starts, visit, token, keep, vocabulary.bare())
        keep &= once
    kept = np.flatnonzero(keep)
    run, time = run[kept], time[kept]
    age = np.where(time == STATIC, 0, time - birth[run]) / DAY
    lists = (token[kept], visit[kept], age, time)
    return assemble(subject[starts], pa.array(birth, mask=~known), run, lists)


def _index(names: Sequence[str], name: str) -> int:
    return names.index(name) if name in names else -1


def run_starts(subject: Ints) -> Bools:
    """Mark the first row of each subject."""
    starts = np.ones(len(subject), dtype=bool)
    starts[1:] = subject[1:] != subject[:-1]
    return starts


def births(time: Ints, is_birth: Bools, run: Ints, patients: int) -> tuple[Ints, Bools]:
    """Return the origin of age by subject, microseconds, and whether it is a birth.

    A birth counts only where it is the earliest event; otherwise age counts from the first event with a time.
    Either way the origin is known at that first event, and nothing later can move it.
    """
    origin = np.zeros(patients, dtype=np.int64)
    known = np.zeros(patients, dtype=bool)
    dated = time != STATIC
    # The first dated row of each subject: rows of a subject are together, and statics stand before the others.
    first = dated.copy()
    first[1:] &= ~dated[:-1] | (run[1:] != run[:-1])
    origin[run[first]] = time[first]
    rows = np.flatnonzero(is_birth & dated)
    known[run[rows[time[rows] == origin[run[rows]]]]] = True
    return origin, known


def visits(time: Ints, position: npt.NDArray[np.int32], names: list[str], run: Ints, gap_days: float) -> Ints:
    """Number the visits of each subject from 1; statics and births stand in visit 0.

    A visit begins at a VISIT//*//START event, at the first event of another day while no encounter is open,
    and after a silence of more than `gap_days`.
    """
    visit = np.zeros(len(time), dtype=np.int64)
    rows = np.flatnonzero((time != STATIC) & (position != _index(names, BIRTH)))
    if not len(rows):
        return visit
    steps = np.array(match(names, ("VISIT//*//START",)), np.int8) - np.array(match(names, ("VISIT//*//END",)), np.int8)
    step, run, at = steps[position[rows]], run[rows], time[rows]
    first = run_starts(run)
    begins = first | (step > 0)
    begins[1:] |= np.diff(at) > gap_days * DAY
    days = np.flatnonzero((np.diff(at // DAY) != 0) & ~begins[1:]) + 1
    begins[days] = open_encounters(step, run, days) == 0
    total = np.cumsum(begins)
    visit[rows] = total - (total[first] - 1)[np.cumsum(first) - 1]
    return visit


def open_encounters(step: npt.NDArray[np.int8], run: Ints, rows: Ints) -> Ints:
    """Return how many encounters are open just before some rows; an end without its start counts for nothing.

    Args:
        step: 1 where an encounter starts, -1 where one ends, else 0, [N].
        run: the subject of each row, ascending, [N].
        rows: rows asked for, ascending.
    """
    marks = np.flatnonzero(step)
    if not len(marks):
        return np.zeros(len(rows), dtype=np.int64)
    balance = np.cumsum(step[marks], dtype=np.int64)
    first = run_starts(run[marks])
    before = np.concatenate([[0], balance[:-1]])[first]
    balance -= before[np.cumsum(first) - 1]
    # Running minimum within a subject: runs are pushed apart, so that an earlier run is never the lower one.
    apart = run[marks] * (2 * len(marks) + 1)
    lowest = np.minimum.accumulate(np.minimum(balance, 0) - apart) + apart
    balance -= lowest
    last = np.searchsorted(marks, rows) - 1
    return np.where((last >= 0) & (run[marks[last]] == run[rows]), balance[last], 0)


def first_in_visit(starts: Bools, visit: Ints, token: npt.NDArray[np.int32], keep: Bools, size: int) -> Bools:
    """Mark the first of equal tokens in each visit of each subject, among the rows that are kept."""
    changes = starts.copy()
    changes[1:] |= visit[1:] != visit[:-1]
    group = np.cumsum(changes)
    first = np.zeros(len(visit), dtype=bool)
    rows = np.flatnonzero(keep)
    first[rows] = pl.Series(group[rows] * size + token[rows]).is_first_distinct().to_numpy()
    return first


def changed(starts: Bools, visit: Ints, token: npt.NDArray[np.int32], keep: Bools, bare: Ints) -> Bools:
    """Mark tokens whose code stood in the same visit before, last with another value, among the rows that are kept.

    Args:
        starts: the first row of each subject, [N].
        visit: [N].
        token: [N].
        keep: rows that may become tokens, [N].
        bare: of each token the one without its value bin, [V].
    """
    changes = starts.copy()
    changes[1:] |= visit[1:] != visit[:-1]
    group = np.cumsum(changes)
    rows = np.flatnonzero(keep)
    key = group[rows] * len(bare) + bare[token[rows]]
    order = np.argsort(key, kind="stable")
    again = np.zeros(len(rows), dtype=bool)
    again[order[1:]] = (np.diff(key[order]) == 0) & (np.diff(token[rows][order]) != 0)
    found = np.zeros(len(visit), dtype=bool)
    found[rows] = again
    return found


def assemble(subjects: Ints, birth: pa.Array, run: Ints, lists: tuple[npt.NDArray[np.generic], ...]) -> pa.Table:
    """Put tokens into one list a subject.

    Args:
        subjects: i64 [P].
        birth: i64 [P], null where not known.
        run: the subject of each token, ascending, [N].
        lists: token, visit, age in days and time, [N] each.
    """
    offsets = pa.array(np.searchsorted(run, np.arange(len(subjects) + 1)).astype(np.int32))
    columns = [
        pa.ListArray.from_arrays(offsets, pa.array(values.astype(column.type.value_type.to_pandas_dtype())))
        for values, column in zip(lists, list(TIMELINES)[2:], strict=True)
    ]
    return pa.Table.from_arrays([pa.array(subjects), birth.cast(pa.timestamp("us")), *columns], schema=TIMELINES)


def write(table: pa.Table, path: Path) -> None:
    """Write one shard of timelines as an Arrow file of one record batch, whole or not at all."""
    temporary = unfinished(path)
    try:
        with pa.OSFile(str(temporary), "wb") as sink, ipc.new_file(sink, TIMELINES) as writer:
            for batch in table.combine_chunks().to_batches():
                writer.write_batch(batch)
        temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


class Shard:
    """One memory-mapped Arrow file of timelines, or a table of them in memory."""

    def __init__(self, table: pa.Table) -> None:
        """Take views of the columns; nothing is copied."""
        batch = table.combine_chunks()
        self.subjects: Ints = batch["subject_id"].to_numpy()
        self.birth = batch["birth"].cast(pa.int64()).to_pylist()
        lists = [_list(batch[name]) for name in ("token", "visit", "age_days", "time")]
        self.offsets: Ints = lists[0].offsets.to_numpy().astype(np.int64)
        self.token, self.visit, self.age_days, self.time = (array.values.to_numpy() for array in lists)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Memory-map a file.

        Raises:
            ValueError: the file is not a whole Arrow file of TIMELINES.
        """
        try:
            table = ipc.open_file(pa.memory_map(str(path))).read_all()
        except (pa.ArrowInvalid, OSError) as error:
            raise ValueError(f"{path}: not a whole Arrow file ({error}); prepare the cohort again") from None
        if not table.schema.equals(TIMELINES):
            raise ValueError(f"{path}: not a file of timelines; prepare the cohort again")
        return cls(table)

    def record(self, row: int) -> Record:
        """Return the timeline in a row."""
        begin, end = self.offsets[row], self.offsets[row + 1]
        return Record(
            int(self.subjects[row]),
            self.token[begin:end],
            self.visit[begin:end],
            self.age_days[begin:end],
            self.time[begin:end],
            self.birth[row],
        )


def _list(column: pa.ChunkedArray) -> pa.ListArray:
    return column.chunk(0) if column.num_chunks else pa.array([], type=column.type)


class Timelines:
    """Timelines of a cohort: shards, and where each subject stands."""

    def __init__(self, shards: Sequence[Shard]) -> None:
        """Index the subjects of all shards."""
        self.shards = list(shards)
        subjects = np.concatenate([shard.subjects for shard in self.shards] or [np.zeros(0, np.int64)])
        shard = np.repeat(np.arange(len(self.shards)), [len(s.subjects) for s in self.shards])
        row = np.concatenate([np.arange(len(s.subjects)) for s in self.shards] or [np.zeros(0, np.int64)])
        order = np.argsort(subjects, kind="stable")
        self.subjects: Ints = subjects[order]
        self._shard, self._row = shard[order], row[order]

    @classmethod
    def open(cls, files: Sequence[Path]) -> Self:
        """Memory-map the files of a cohort, in their order."""
        return cls([Shard.open(path) for path in files])

    def __len__(self) -> int:
        """Return the number of subjects."""
        return len(self.subjects)

    def record(self, subject: int) -> Record:
        """Return a subject's timeline.

        Raises:
            KeyError: the subject is not here.
        """
        at = int(np.searchsorted(self.subjects, subject))
        if at == len(self.subjects) or self.subjects[at] != subject:
            raise KeyError(subject)
        return self.shards[self._shard[at]].record(int(self._row[at]))


def cut(record: Record, prediction_time: int, *, max_length: int) -> Sample:
    """Return what is known at a prediction time: events at or before it (MEDS convention).

    Args:
        record: a timeline.
        prediction_time: microseconds since 1970.
        max_length: tokens kept at most: the statics, and the latest of the others.
    """
    end = int(np.searchsorted(record.time, prediction_time, side="right"))
    dated = int(np.searchsorted(record.time[:end], STATIC, side="right"))
    statics = min(dated, max_length)
    begin = max(statics, end - (max_length - statics))
    origin = record.birth
    if origin is None and dated < end:
        origin = first_time(record)
    # Without a birth or an event before the prediction time no age is known; one that comes later may not tell it.
    age = (prediction_time - origin) / DAY if origin is not None else 0.0

    def take(values: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        if begin == statics:
            return values[:end]
        return np.concatenate([values[:statics], values[begin:end]])

    token, visit, ages = take(record.token), take(record.visit), take(record.age_days)
    return Sample(record.subject, prediction_time, token, visit, ages, age)  # pyright: ignore[reportArgumentType]


def first_time(record: Record) -> int:
    """Return the origin of age of a patient without a birth, with a dated token: the time of age 0."""
    at = int(np.searchsorted(record.time, STATIC, side="right"))
    return int(record.time[at] - round(float(record.age_days[at]) * DAY))
