"""One pass over a shard: rows that cannot be used, and one row of counts for the gates. No Great Expectations."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from ehr.events import BIRTH, DEATH, EVENTS
from ehr.quality.thresholds import Thresholds

DAY = 86_400_000_000
NEVER = 2**62
STATIC = -(2**63)
# Plausible ranges in the units that LOINC examples use; outside lie typing errors and other units.
RANGES: Mapping[str, tuple[float, float]] = {
    "LOINC//8302-2": (20, 260),  # body height, cm
    "LOINC//29463-7": (0.3, 650),  # body weight, kg
    "LOINC//39156-5": (5, 150),  # body mass index, kg/m2
    "LOINC//8867-4": (0, 350),  # heart rate, 1/min
    "LOINC//9279-1": (0, 120),  # respiratory rate, 1/min
    "LOINC//8480-6": (0, 370),  # systolic pressure, mmHg
    "LOINC//8462-4": (0, 250),  # diastolic pressure, mmHg
    "LOINC//8310-5": (20, 46),  # body temperature, Cel
    "LOINC//4548-4": (1, 25),  # haemoglobin A1c, %
    "LOINC//2339-0": (1, 2000),  # glucose, mg/dL
    "LOINC//2345-7": (1, 2000),  # glucose, mg/dL
    "LOINC//718-7": (1, 30),  # haemoglobin, g/dL
    "LOINC//2160-0": (0, 50),  # creatinine, mg/dL
    "LOINC//2951-2": (80, 220),  # sodium, mmol/L
    "LOINC//6298-4": (0.5, 15),  # potassium, mmol/L
}
REJECTED = pl.Schema({"file": pl.String(), "row": pl.Int64(), "reason": pl.String()})
PROFILE_COUNTS = (
    "rows",
    "null_subject",
    "negative_subject",
    "null_code",
    "not_finite",
    "unreadable",
    "future",
    "before_birth",
    "after_death",
    "implausible",
    "duplicates",
    "patients",
    "no_birth",
)
REASONS = PROFILE_COUNTS[1:9]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]


class Sifted(NamedTuple):
    """A shard after its gates: EVENTS that can be used, rows that cannot, and one row of counts."""

    events: pl.DataFrame
    rejected: pl.DataFrame
    profile: pl.DataFrame


class Violation(NamedTuple):
    """A gate that does not hold: the expectation, what was found, what is borne, and where it began."""

    expectation: str
    found: float
    bound: float
    count: int
    where: str


def sift(events: pl.DataFrame, *, name: str, now: int, first_row: int = 1) -> Sifted:
    """Take out rows that cannot be used and count what the gates look at.

    Args:
        events: EVENTS in canonical order, with optional columns row and reject.
        name: file to name in `rejected`.
        now: microseconds since 1970; later rows lie in the future.
        first_row: number in the file of the first row, where there is no column row.
    """
    subject = events["subject_id"].fill_null(STATIC).to_numpy()
    time = events["time"].to_physical().fill_null(STATIC).to_numpy()
    reasons = np.zeros(len(events), dtype=np.int8)

    def mark(number: int, rows: Bools) -> None:
        reasons[(reasons == 0) & rows] = number

    if "reject" in events.columns:
        mark(5, events["reject"].is_not_null().to_numpy())
    mark(1, subject == STATIC)
    mark(2, subject < 0)
    empty = events["code"].is_null() | (events["code"].str.len_bytes() == 0)
    mark(3, empty.fill_null(value=True).to_numpy())
    value = events["numeric_value"]
    if value.null_count() < len(value):
        mark(4, (~value.is_finite()).fill_null(value=False).to_numpy())
    mark(6, time > now)
    run, starts = runs(subject)
    birth, death = edges(events["code"], time, run, int(starts.sum()), reasons)
    dated = time != STATIC
    # Whole days: sources often know only the date of birth and death.
    mark(7, dated & (birth[run] != NEVER) & (time // DAY < birth[run] // DAY))
    mark(8, dated & (time // DAY > death[run] // DAY + 1))
    kept = reasons == 0
    good = events if kept.all() else events.filter(pl.Series(kept))
    profile = count(good, reasons, name, patients=int(starts.sum()), no_birth=int((birth == NEVER).sum()))
    return Sifted(good.select(EVENTS.names()), listing(events, reasons, name, first_row), profile)


def runs(subject: Ints) -> tuple[Ints, Bools]:
    """Return the run of each row, a run being the rows of one subject, and where runs start."""
    starts = np.ones(len(subject), dtype=bool)
    starts[1:] = subject[1:] != subject[:-1]
    return np.cumsum(starts) - 1, starts


def edges(
    code: pl.Series, time: Ints, run: Ints, patients: int, reasons: npt.NDArray[np.int8]
) -> tuple[Ints, Ints]:
    """Return birth and death by run, NEVER where not known; rows already rejected do not count."""
    found: list[Ints] = []
    for name in (BIRTH, DEATH):
        times = np.full(patients, NEVER)
        rows = np.flatnonzero(
            (code == name).fill_null(value=False).to_numpy() & (time != STATIC) & (reasons == 0)
        )[::-1]
        times[run[rows]] = time[rows]
        found.append(times)
    return found[0], found[1]


def count(
    good: pl.DataFrame, reasons: npt.NDArray[np.int8], name: str, *, patients: int, no_birth: int
) -> pl.DataFrame:
    """Return the shard's row of counts."""
    by_reason = np.bincount(reasons, minlength=len(REASONS) + 1)
    counts = {"rows": len(reasons), **{reason: int(by_reason[i + 1]) for i, reason in enumerate(REASONS)}}
    counts["implausible"] = implausible(good)
    counts["duplicates"] = duplicates(good)
    counts["patients"], counts["no_birth"] = patients, no_birth
    return pl.DataFrame({"name": [name], **{key: [counts[key]] for key in PROFILE_COUNTS}})


def implausible(events: pl.DataFrame) -> int:
    """Count values outside the plausible range of their code."""
    ranged = events.lazy().filter(pl.col("numeric_value").is_not_null() & pl.col("code").is_in(list(RANGES)))
    found = ranged.select("code", "numeric_value").collect()
    low = found["code"].replace_strict(
        {code: low for code, (low, _) in RANGES.items()}, return_dtype=pl.Float32
    )
    high = found["code"].replace_strict(
        {code: high for code, (_, high) in RANGES.items()}, return_dtype=pl.Float32
    )
    return int(((found["numeric_value"] < low) | (found["numeric_value"] > high)).sum())


def duplicates(events: pl.DataFrame) -> int:
    """Count rows equal to the row before them in every column."""
    same = [pl.col(name).eq_missing(pl.col(name).shift(1)) for name in EVENTS]
    return int(events.select(pl.all_horizontal(same).slice(1).sum()).item() or 0)


def listing(events: pl.DataFrame, reasons: npt.NDArray[np.int8], name: str, first_row: int) -> pl.DataFrame:
    """Return rejected rows by file, row number and reason: never a value."""
    at = np.flatnonzero(reasons)
    if not len(at):
        return pl.DataFrame(schema=REJECTED)
    number = events["row"].gather(at).cast(pl.Int64) if "row" in events.columns else pl.Series(at + first_row)
    file = (
        events["file"].gather(at)
        if "file" in events.columns
        else pl.Series([name] * len(at), dtype=pl.String)
    )
    stated = pl.Series(np.array(["", *REASONS])[reasons[at]])
    if "reject" in events.columns:
        stated = events["reject"].gather(at).fill_null("").zip_with(pl.Series(reasons[at] == 5), stated)
    return pl.DataFrame({"file": file, "row": number, "reason": stated}, schema=REJECTED)


def shares(profile: pl.DataFrame) -> dict[str, tuple[float, int]]:
    """Return share and count of each gate over all shards of a profile."""
    total = profile.select(pl.col(PROFILE_COUNTS).sum()).row(0, named=True)
    rows, patients = max(total["rows"], 1), max(total["patients"], 1)
    found = {key: (total[key] / rows, total[key]) for key in PROFILE_COUNTS[1:11]}
    found["no_birth"] = (total["no_birth"] / patients, total["no_birth"])
    return found


def hold(
    profile: pl.DataFrame, thresholds: Thresholds, rejected: pl.DataFrame | None = None
) -> list[Violation]:
    """Compare a profile with the thresholds, without Great Expectations.

    Args:
        profile: rows of `sift`, one a shard.
        thresholds: what is borne.
        rejected: rows of `sift`, to say where it began.
    """
    violations: list[Violation] = []
    for gate, (share, number) in shares(profile).items():
        bound = float(getattr(thresholds, gate))
        if share > bound:
            violations.append(Violation(gate, share, bound, number, first_offenders(gate, profile, rejected)))
    return violations


def first_offenders(gate: str, profile: pl.DataFrame, rejected: pl.DataFrame | None, most: int = 3) -> str:
    """Return the first rows or shards that a gate found, as file:row."""
    if rejected is not None and gate in REASONS:
        rows = rejected.filter(pl.col("reason") == gate).head(most)
        if len(rows):
            return ", ".join(f"{file}:{row}" for file, row, _ in rows.iter_rows())
    return ", ".join(profile.filter(pl.col(gate) > 0)["name"].head(most))


def message(violation: Violation) -> str:
    """Return a violation as one line with its remedy."""
    return (
        f"gate {violation.expectation}: {violation.count:,} found ({violation.found:.4g}), at most "
        f"{violation.bound:.4g} borne, first at {violation.where}; mend the records or raise "
        f"`{violation.expectation}` in --quality FILE"
    )
