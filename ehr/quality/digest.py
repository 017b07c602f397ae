"""What a group of patients looks like to the model, in counts alone: for comparing those scored with those learnt from.

Each patient counts once in each table, at one prediction time, so that patients are independent draws and counts of a
sample have a known sampling noise.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from ehr.codes import distinct, match
from ehr.events import BIRTH

FEATURES = pl.Schema({"subject_id": pl.Int64(), "kind": pl.String(), "name": pl.String(), "bin": pl.Int32()})
TALLY = pl.Schema({"kind": pl.String(), "name": pl.String(), "bin": pl.Int32(), "patients": pl.Int64()})
KINDS = ("history", "feed", "code", "value", "unknown")
EVERYONE = "everyone"
"""The kind under which each patient counts once."""
FEW = 10
"""Cells of fewer patients are merged with their neighbours before they leave the house."""
DAY = 86_400_000_000
COUNTS = tuple(sorted({0, *(round(2 ** (step / 2)) for step in range(2 * 17))}))
"""Cuts of numbers of events and of days: half octaves."""
AGES = tuple(365.25 * years for years in range(5, 100, 5))
SHARES = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)


class Counts(NamedTuple):
    """Patients by bin: bin i holds values with i cuts below them; one bin more than cuts."""

    cuts: tuple[float, ...]
    patients: tuple[int, ...]


class Digest(NamedTuple):
    """Tables of counts by kind and name, each over those who have something to count, and how many there are in all."""

    tables: Mapping[tuple[str, str], Counts]
    everyone: int


class Reading(NamedTuple):
    """How a model reads events.

    Attributes:
        known: whether a code, or one above it, is in the vocabulary.
        exclude: patterns of codes that are never read.
        cuts: inner cuts of values by code.
    """

    known: Callable[[str], bool]
    exclude: Sequence[str]
    cuts: Mapping[str, Sequence[float]]


def features(events: pl.DataFrame, times: pl.DataFrame, reading: Reading) -> pl.DataFrame:
    """Return one row a patient and table, as FEATURES; a code or feed that a patient lacks has no row.

    Args:
        events: EVENTS in canonical order, all of a patient.
        times: subject_id and prediction_time, one a patient; only events at or before it are read.
        reading: how the model reads them; who has no code that it knows is left out, as scoring leaves her out.
    """
    asked = pl.col("time").is_null() | (pl.col("time") <= pl.col("prediction_time"))
    seen = events.join(times, on="subject_id", how="inner", maintain_order="left").filter(asked)
    names, position = distinct(seen["code"])
    read = ~np.array(match(names, reading.exclude), dtype=bool)
    known = np.array([reading.known(name) for name in names], dtype=bool) & read
    rows = seen.select(
        "subject_id",
        "prediction_time",
        "time",
        pl.col("numeric_value").cast(pl.Float64).alias("value"),
        pl.Series("code", position),
        pl.Series("read", read[position]),
        pl.Series("known", known[position]),
    )
    born = rows.filter(pl.Series(position) == (names.index(BIRTH) if BIRTH in names else -1))
    rows = rows.filter("read")
    able = rows.lazy().group_by("subject_id").agg(pl.col("known").any()).filter("known").select("subject_id").collect()
    rows = rows.join(able, on="subject_id", how="semi", maintain_order="left")
    return pl.concat(
        [
            row_of(able, EVERYONE, "", pl.lit(0, pl.Int32)),
            *history(rows, born),
            feed(rows, names),
            codes(rows, names),
            values(rows, names, reading.cuts),
            unknown(rows),
        ]
    )


def row_of(frame: pl.DataFrame, kind: str, name: str | pl.Expr, place: pl.Expr) -> pl.DataFrame:
    """Return FEATURES of one kind from a frame with subject_id."""
    text = pl.lit(name) if isinstance(name, str) else name
    stated = {"kind": pl.lit(kind), "name": text, "bin": place.cast(pl.Int32)}
    return frame.select("subject_id", **stated).cast(FEATURES)


def placed(values: pl.Series, cuts: Sequence[float]) -> pl.Series:
    """Return how many cuts lie below each value."""
    return pl.Series(np.searchsorted(np.asarray(cuts, np.float64), values.to_numpy(), side="left"), dtype=pl.Int32)


def history(rows: pl.DataFrame, born: pl.DataFrame) -> list[pl.DataFrame]:
    """Return how long and full each patient's record is, and her age where a birth is known."""
    time, asked = pl.col("time"), pl.col("prediction_time")
    found = (
        rows.lazy()
        .group_by("subject_id")
        .agg(
            pl.len().alias("events"),
            time.dt.date().drop_nulls().n_unique().alias("days"),
            ((time.max() - time.min()).dt.total_microseconds() / DAY).fill_null(0).alias("span_days"),
            ((asked.first() - time.max()).dt.total_microseconds() / DAY).fill_null(0).alias("quiet_days"),
        )
        .sort("subject_id")
        .collect()
    )
    tables = [
        row_of(found, "history", name, pl.lit(placed(found[name], COUNTS)))
        for name in ("events", "days", "span_days", "quiet_days")
    ]
    aged = born.join(found, on="subject_id", how="semi").unique("subject_id", keep="first", maintain_order=True)
    age = aged.select((asked - time).dt.total_microseconds() / DAY).to_series().fill_null(0)
    return [*tables, row_of(aged, "history", "age_days", pl.lit(placed(age, AGES)))]


def system(code: str) -> str:
    """Return what stands before the first `//` of a code: the feed it comes by, as a rule."""
    return code.partition("//")[0]


def feed(rows: pl.DataFrame, names: Sequence[str]) -> pl.DataFrame:
    """Return how many events of each code system a patient has, where there is one."""
    own = [system(name) for name in names]
    systems = sorted(set(own))
    at = np.array([systems.index(name) for name in own], dtype=np.int32)
    counted = rows.select("subject_id", pl.Series("feed", at[rows["code"].to_numpy()]))
    counted = counted.lazy().group_by("subject_id", "feed").agg(pl.len().alias("events")).collect()
    named = pl.Series(systems, dtype=pl.String).gather(counted["feed"])
    return row_of(counted, "feed", pl.lit(named), pl.lit(placed(counted["events"], COUNTS)))


def codes(rows: pl.DataFrame, names: Sequence[str]) -> pl.DataFrame:
    """Return which codes each patient has."""
    held = rows.lazy().select("subject_id", "code").unique().collect()
    return row_of(held, "code", pl.lit(pl.Series(names, dtype=pl.String).gather(held["code"])), pl.lit(1))


def values(rows: pl.DataFrame, names: Sequence[str], cuts: Mapping[str, Sequence[float]]) -> pl.DataFrame:
    """Return the bin of each patient's last value of each code that has cuts."""
    cut = np.array([bool(cuts.get(name)) for name in names], dtype=bool)
    valued = rows.filter(pl.Series(cut[rows["code"].to_numpy()]), pl.col("value").is_finite())
    last = valued.lazy().group_by("subject_id", "code", maintain_order=True).agg(pl.col("value").last()).collect()
    value, code = last["value"].to_numpy().astype(np.float32), last["code"].to_numpy()
    place = np.zeros(len(value), dtype=np.int32)
    order = np.argsort(code, kind="stable")
    for at in np.split(order, np.flatnonzero(np.diff(code[order])) + 1) if len(order) else []:
        edges = np.asarray(cuts[names[int(code[at[0]])]], np.float32)
        place[at] = np.searchsorted(edges, value[at], side="left")
    named = pl.Series(names, dtype=pl.String).gather(last["code"])
    return row_of(last, "value", pl.lit(named), pl.lit(pl.Series(place)))


def unknown(rows: pl.DataFrame) -> pl.DataFrame:
    """Return which share of each patient's events has a code that the model does not know."""
    found = rows.lazy().group_by("subject_id").agg((~pl.col("known")).mean().alias("share")).collect()
    return row_of(found, "unknown", "share", pl.lit(placed(found["share"], SHARES)))


def count(found: pl.DataFrame) -> pl.DataFrame:
    """Count patients of FEATURES by kind, name and bin: TALLY, sorted; tallies of other patients add up."""
    return (
        found.lazy()
        .group_by("kind", "name", "bin")
        .agg(pl.len().cast(pl.Int64).alias("patients"))
        .sort("kind", "name", "bin")
        .collect()
    )


def add(tallies: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """Add up TALLY of distinct patients."""
    whole = pl.concat([pl.DataFrame(schema=TALLY), *tallies])
    return whole.group_by("kind", "name", "bin").agg(pl.col("patients").sum()).sort("kind", "name", "bin")


def digest(tally: pl.DataFrame, cuts: Mapping[str, Sequence[float]]) -> Digest:
    """Turn a tally into tables, patients without a row of a code or feed in bin 0.

    Args:
        tally: TALLY.
        cuts: inner cuts of values by code, as in the reading.
    """
    everyone = int(tally.filter(pl.col("kind") == EVERYONE)["patients"].sum())
    tables: dict[tuple[str, str], Counts] = {}
    for (kind, name), rows in tally.group_by(["kind", "name"], maintain_order=True):
        kind, name = str(kind), str(name)
        if kind == EVERYONE:
            continue
        edges = cuts_of(kind, name, cuts)
        patients = np.zeros(len(edges) + 1, dtype=np.int64)
        patients[rows["bin"].to_numpy()] = rows["patients"].to_numpy()
        if kind in ("code", "feed"):
            patients[0] = everyone - patients[1:].sum()
        tables[kind, name] = Counts(edges, tuple(patients.tolist()))
    return Digest(tables, everyone)


def cuts_of(kind: str, name: str, cuts: Mapping[str, Sequence[float]]) -> tuple[float, ...]:
    """Return the cuts of a table."""
    if kind == "value":
        return tuple(float(cut) for cut in cuts[name])
    fixed = {"code": (0.0,), "unknown": SHARES, "feed": COUNTS}
    return tuple(map(float, AGES if name == "age_days" else fixed.get(kind, COUNTS)))


def spread(values: npt.NDArray[np.floating[Any]], bins: int = 20) -> Counts:
    """Return counts over bins of equal mass of these values, equal cuts once."""
    cuts = np.unique(np.quantile(values, np.arange(1, bins) / bins, method="lower")).astype(np.float64)
    return over(values, tuple(cuts.tolist()))


def over(values: npt.NDArray[np.floating[Any]], cuts: tuple[float, ...]) -> Counts:
    """Return counts of values over given cuts."""
    place = np.searchsorted(np.asarray(cuts), values.astype(np.float64), side="left")
    return Counts(cuts, tuple(np.bincount(place, minlength=len(cuts) + 1).tolist()))


def suppressed(held: Digest, few: int = FEW) -> Digest:
    """Return a digest without small counts.

    A cell of 1 to `few` - 1 patients is merged with a neighbour, again and again; a table with a single cell left tells
    nothing and is left out. Cells of 0 stay: they are about no one.
    """
    merged = {key: merge(counts, few) for key, counts in held.tables.items()}
    return Digest({key: counts for key, counts in merged.items() if counts.cuts}, held.everyone)


def merge(counts: Counts, few: int) -> Counts:
    """Merge cells of 1 to `few` - 1 patients with the cell above, the last one with the cell below."""
    cuts, patients = list(counts.cuts), list(counts.patients)
    at = 0
    while at < len(patients) and len(patients) > 1:
        if not 0 < patients[at] < few:
            at += 1
            continue
        low = min(at, len(cuts) - 1)
        patients[low : low + 2] = [patients[low] + patients[low + 1]]
        del cuts[low]
        at = low
    return Counts(tuple(cuts), tuple(patients))


def without_rare(held: Digest, known: Callable[[str], bool], few: int = FEW) -> Digest:
    """Return a digest without codes that few patients have and the model does not know: they may be anyone's words."""
    kept = {
        (kind, name): counts
        for (kind, name), counts in held.tables.items()
        if kind not in ("code", "feed") or known(name) or sum(counts.patients[1:]) >= few
    }
    return Digest(kept, held.everyone)


def to_json(held: Digest) -> dict[str, Any]:
    """Return a digest as plain types, tables by kind and name."""
    tables: dict[str, dict[str, Any]] = {}
    for (kind, name), counts in held.tables.items():
        tables.setdefault(kind, {})[name] = {"cuts": list(counts.cuts), "patients": list(counts.patients)}
    return {"everyone": held.everyone, "tables": tables}


def from_json(content: Mapping[str, Any]) -> Digest:
    """Read a digest.

    Raises:
        ValueError: it is none.
    """
    try:
        tables = {
            (str(kind), str(name)): checked(counts)
            for kind, named in content["tables"].items()
            for name, counts in named.items()
        }
        return Digest(tables, int(content["everyone"]))
    except (KeyError, TypeError, AttributeError):
        raise ValueError("not a digest of anamnesis; expected digest.json of a release or of predictions") from None


def checked(content: Mapping[str, Any]) -> Counts:
    """Return one table, or refuse what cannot be one."""
    cuts = tuple(float(cut) for cut in content["cuts"])
    patients = tuple(int(number) for number in content["patients"])
    if len(patients) != len(cuts) + 1 or min(patients) < 0 or list(cuts) != sorted(cuts):
        raise ValueError("a table of the digest has other bins than cuts; copy the file again")
    return Counts(cuts, patients)
