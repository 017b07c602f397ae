"""One pass over a shard: rows that cannot be used, and one row of counts for the gates. No Great Expectations."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from ehr.events import BIRTH, DEATH, EVENTS
from ehr.quality.plausibility import RANGES, Range, implausible
from ehr.quality.thresholds import Measure

DAY = 86_400_000_000
NEVER = 2**62
STATIC = -(2**63)
REJECTED = pl.Schema({"file": pl.String(), "row": pl.Int64(), "reason": pl.String()})
# Rows with one of these cannot be used; a row with several is listed under the first.
REASONS = (
    "null_subject",
    "negative_subject",
    "null_code",
    "not_finite",
    "unreadable",
    "future",
    "before_birth",
    "after_death",
)
ROW_GATES = (*REASONS, "out_of_order", "implausible", "duplicates")
PATIENT_GATES = ("no_birth", "births_twice", "deaths_twice")
PROFILE = pl.Schema(
    {
        "name": pl.String(),
        **{column: pl.Int64() for column in ("rows", "patients", "valued", "statics", *ROW_GATES, *PATIENT_GATES)},
    }
)
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]


class Sifted(NamedTuple):
    """A shard after its gates: EVENTS that can be used, rows that cannot, and one row of counts."""

    events: pl.DataFrame
    rejected: pl.DataFrame
    profile: pl.DataFrame


class Edges(NamedTuple):
    """Births and deaths by run of rows of one subject: the first time, and whether another day is stated too."""

    birth: Ints
    death: Ints
    births_twice: int
    deaths_twice: int


def sift(
    events: pl.DataFrame,
    *,
    name: str,
    now: int,
    first_row: int = 1,
    ranges: Mapping[str, Range] | None = None,
    counted: bool = True,
) -> Sifted:
    """Take out rows that cannot be used and count what the gates look at.

    Args:
        events: EVENTS in canonical order, with optional columns row, file and reject.
        name: file to name in `rejected`.
        now: microseconds since 1970; later rows lie in the future.
        first_row: number in the file of the first row, where there is no column row.
        ranges: plausible ranges by code, beside and over the built-in ones.
        counted: count too what takes no row out; without it those counts are 0.
    """
    subject = events["subject_id"].fill_null(STATIC).to_numpy()
    time = events["time"].to_physical().fill_null(STATIC).to_numpy()
    marks = simple_marks(events, subject, time, now)
    run, starts = runs(subject)
    sound = ~np.logical_or.reduce(list(marks.values()))
    edges = find_edges(events["code"], time, run, int(starts.sum()), sound)
    dated = (time != STATIC) & (subject >= 0)
    # Whole days: sources often know only the date of birth and death.
    marks["before_birth"] = dated & (edges.birth[run] != NEVER) & (time // DAY < edges.birth[run] // DAY)
    marks["after_death"] = dated & (time // DAY > edges.death[run] // DAY + 1)
    reasons = np.zeros(len(events), dtype=np.int8)
    for i, reason in reversed(list(enumerate(REASONS, start=1))):
        reasons[marks[reason]] = i
    kept = reasons == 0
    good = events if kept.all() else events.filter(pl.Series(kept))
    good = good.select(EVENTS.names())
    counts: dict[str, int] = {reason: int(mark.sum()) for reason, mark in marks.items()}
    counts["out_of_order"] = int((time[1:] < time[:-1])[~starts[1:]].sum()) + int((subject[1:] < subject[:-1]).sum())
    counts["implausible"] = implausible(good, {**RANGES, **(ranges or {})}) if counted else 0
    counts["duplicates"] = duplicates(good) if counted else 0
    alive = np.zeros(int(starts.sum()), dtype=bool)
    alive[run[kept]] = True
    counts["no_birth"] = int((alive & (edges.birth == NEVER)).sum())
    counts["births_twice"], counts["deaths_twice"] = edges.births_twice, edges.deaths_twice
    counts["patients"], counts["rows"] = int(alive.sum()), len(events)
    counts["valued"] = good.height - good["numeric_value"].null_count()
    counts["statics"] = good["time"].null_count()
    return Sifted(good, listing(events, reasons, name, first_row), profile_row(name, counts))


def simple_marks(events: pl.DataFrame, subject: Ints, time: Ints, now: int) -> dict[str, Bools]:
    """Return rows that cannot be used for what stands in the row itself, by reason."""
    empty = events["code"].is_null() | (events["code"].str.len_bytes() == 0)
    value = events["numeric_value"]
    none = np.zeros(len(events), dtype=bool)
    valued = value.null_count() < len(value)
    return {
        "null_subject": subject == STATIC,
        "negative_subject": (subject < 0) & (subject != STATIC),
        "null_code": empty.fill_null(value=True).to_numpy(),
        "not_finite": (~value.is_finite()).fill_null(value=False).to_numpy() if valued else none,
        "unreadable": events["reject"].is_not_null().to_numpy() if "reject" in events.columns else none,
        "future": time > now,
    }


def runs(subject: Ints) -> tuple[Ints, Bools]:
    """Return the run of each row, a run being the rows of one subject, and where runs start."""
    starts = np.ones(len(subject), dtype=bool)
    starts[1:] = subject[1:] != subject[:-1]
    return np.cumsum(starts) - 1, starts


def find_edges(code: pl.Series, time: Ints, run: Ints, patients: int, sound: Bools) -> Edges:
    """Return birth and death by run, NEVER where not known; rows that cannot be used do not count."""
    times: list[Ints] = []
    twice: list[int] = []
    for name in (BIRTH, DEATH):
        rows = np.flatnonzero((code == name).fill_null(value=False).to_numpy() & (time != STATIC) & sound)
        found = np.full(patients, NEVER)
        # The first in order counts: written last.
        found[run[rows[::-1]]] = time[rows[::-1]]
        times.append(found)
        twice.append(len(np.unique(run[rows][time[rows] // DAY != found[run[rows]] // DAY])))
    return Edges(times[0], times[1], twice[0], twice[1])


def duplicates(events: pl.DataFrame) -> int:
    """Count rows equal to another in every column."""
    # 64-bit hashes: two unequal rows of a million meet with a chance of 3e-8.
    return int(events.hash_rows().is_duplicated().sum())


def profile_row(name: str, counts: Mapping[str, int]) -> pl.DataFrame:
    """Return PROFILE of one shard."""
    return pl.DataFrame({"name": [name], **{key: [counts[key]] for key in PROFILE.names()[1:]}}, schema=PROFILE)


def listing(events: pl.DataFrame, reasons: npt.NDArray[np.int8], name: str, first_row: int) -> pl.DataFrame:
    """Return rejected rows by file, row number and reason: never a value."""
    at = np.flatnonzero(reasons)
    if not len(at):
        return pl.DataFrame(schema=REJECTED)
    number = events["row"].gather(at).cast(pl.Int64) if "row" in events.columns else pl.Series(at + first_row)
    file = events["file"].gather(at) if "file" in events.columns else pl.Series([name] * len(at), dtype=pl.String)
    stated = pl.Series(np.array(["", *REASONS])[reasons[at]])
    if "reject" in events.columns:
        unreadable = pl.Series(reasons[at] == REASONS.index("unreadable") + 1)
        stated = events["reject"].gather(at).fill_null("").zip_with(unreadable, stated)
    return pl.DataFrame({"file": file, "row": number, "reason": stated}, schema=REJECTED)


def measures(profile: pl.DataFrame, rejected: pl.DataFrame | None = None) -> dict[str, Measure]:
    """Add up profiles of shards: for each gate how many, of how many, and where it begins.

    Args:
        profile: PROFILE, one row a shard.
        rejected: REJECTED of the same shards, to name rows where they are known.
    """
    total = profile.select(pl.col(PROFILE.names()[1:]).sum()).row(0, named=True)
    return {
        gate: Measure(
            int(total[gate]),
            int(total["rows" if gate in ROW_GATES else "patients"]),
            first_offenders(gate, profile, rejected) if total[gate] else "",
        )
        for gate in (*ROW_GATES, *PATIENT_GATES)
    }


def first_offenders(gate: str, profile: pl.DataFrame, rejected: pl.DataFrame | None, most: int = 3) -> str:
    """Return the first rows, as file:row, or the first shards that a gate found."""
    if rejected is not None and gate in REASONS:
        # What a reader could not use is listed under the reader's own words.
        listed = pl.col("reason").is_in(REASONS)
        rows = rejected.filter(~listed if gate == "unreadable" else pl.col("reason") == gate).head(most)
        if len(rows):
            return ", ".join(f"{file}:{row}" for file, row, _ in rows.iter_rows())
    return ", ".join(profile.filter(pl.col(gate) > 0)["name"].head(most))
