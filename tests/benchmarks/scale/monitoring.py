"""How often `anamnesis monitor` finds a planted shift, and how often it raises an alarm where nothing changed.

The demo's release, its training patients as the reference; fresh patients of the same simulator as draws that share
nobody. Records are altered before they are counted; what is compared is what `score` leaves in digest.json.
"""

import json
from collections.abc import Callable
from functools import partial

import numpy as np
import polars as pl

from ehr.quality import digest
from ehr.quality.digest import Digest
from pipelines import digests
from pipelines.cohort import open_cohort
from pipelines.digests import Digests
from pipelines.moments import LATEST
from pipelines.monitor.compare import watch
from pipelines.monitor.sources import ANSWERS, Seen
from pipelines.release import Release, open_release
from pipelines.scoring import last_and_death, reading
from tests.benchmarks.harness import ROOT, RUNS, Figure, records

COMMAND = "python -m tests.benchmarks.scale.monitoring"
DEMO = ROOT / "runs" / "demo"
PATIENTS, DRAWS, SIZE, SEED = 20_000, 80, 200, 2
"""Patients of the fresh cohort, draws of them, patients of a draw, and a seed that is not the demo's."""
LAB, FEED, UNIT = "LOINC//718-7", "LOINC//", 0.6206
"""Haemoglobin from g/dL to mmol/L, which no plausible range forbids, and the prefix of laboratory results."""


def draw(codes: pl.Series, seed: int) -> pl.Series:
    """Return a number in [0, 1) by code, the same in every shard."""
    names = codes.unique().sort()
    numbers = [np.random.default_rng([seed, *name.encode()]).random() for name in names]
    return codes.replace_strict(names, numbers, return_dtype=pl.Float64)


def rows(events: pl.DataFrame, seed: int) -> pl.Series:
    """Return a number in [0, 1) by row."""
    return pl.Series(np.random.default_rng([seed, int(events["subject_id"][0])]).random(len(events)))


def fixed(events: pl.DataFrame) -> pl.Series:
    """Mark births, deaths and other rows that no shift touches."""
    return events["code"].str.starts_with("MEDS_") | events["time"].is_null()


def unit_change(events: pl.DataFrame) -> pl.DataFrame:
    """Give one laboratory test in another unit."""
    value = pl.when(pl.col("code") == LAB).then(pl.col("numeric_value") * UNIT).otherwise(pl.col("numeric_value"))
    return events.with_columns(value.cast(pl.Float32))


def lost_feed(events: pl.DataFrame) -> pl.DataFrame:
    """Leave out all laboratory results."""
    return events.filter(~pl.col("code").str.starts_with(FEED))


def new_site(events: pl.DataFrame) -> pl.DataFrame:
    """Record each code in a share of cases of its own, from 0.3 to 1: other habits of coding."""
    kept = 0.3 + 0.7 * draw(events["code"], 1)
    return events.filter(fixed(events) | (rows(events, 2) < kept))


def code_dropout(events: pl.DataFrame) -> pl.DataFrame:
    """Leave out a fifth of the rows (severity 3 of EHR-C)."""
    return events.filter(fixed(events) | (rows(events, 3) >= 0.2))


def history_truncation(events: pl.DataFrame) -> pl.DataFrame:
    """Keep the last 30 % of each patient's days with events (severity 3 of EHR-C)."""
    day = pl.col("time").dt.date()
    place = day.rank("dense").over("subject_id") / day.rank("dense").max().over("subject_id")
    early = events.with_columns(pl.when(~fixed(events)).then(pl.col("time")).alias("time")).select(place > 0.7)
    return events.filter(fixed(events) | early.to_series().fill_null(value=True))


def code_coarsening(events: pl.DataFrame) -> pl.DataFrame:
    """Cut half of the diagnoses to three characters (severity 3 of EHR-C)."""
    coarse = pl.col("code").str.starts_with("ICD10CM//") & (rows(events, 4) < 0.5)
    return events.with_columns(
        pl.when(coarse).then(pl.col("code").str.head(12)).otherwise(pl.col("code")).alias("code")
    )


def local_codes(events: pl.DataFrame) -> pl.DataFrame:
    """Exchange a tenth of the code types by codes of the house (severity 3 of EHR-C)."""
    local = (draw(events["code"], 5) < 0.1) & ~fixed(events)
    own = pl.concat_str(pl.lit("LOCAL//"), pl.col("code").str.replace_all("/", "-"))
    return events.with_columns(pl.when(local).then(own).otherwise(pl.col("code")).alias("code"))


SHIFTS: dict[str, Callable[[pl.DataFrame], pl.DataFrame]] = {
    shift.__name__: shift
    for shift in (unit_change, lost_feed, new_site, code_dropout, history_truncation, code_coarsening, local_codes)
}


def times_of(events: pl.DataFrame) -> pl.DataFrame:
    """Return each living patient's last event, as scoring takes it."""
    edges = last_and_death(events)
    alive = edges.filter(pl.col("last").is_not_null(), pl.col("death").is_null() | (pl.col("death") > pl.col("last")))
    return alive.select("subject_id", pl.col("last").alias("prediction_time"))


def counted(release: Release, shift: Callable[[pl.DataFrame], pl.DataFrame] | None) -> pl.DataFrame:
    """Return FEATURES of all fresh patients after a shift."""
    how = reading(release.vocabulary)
    found: list[pl.DataFrame] = []
    for file in sorted((records(PATIENTS, SEED) / "data").glob("*.parquet")):
        events = pl.read_parquet(file)
        altered = events if shift is None else shift(events)
        found.append(digest.features(altered, times_of(altered), how))
    return pl.concat(found)


def alarms(reference: Digests, features: pl.DataFrame, release: Release) -> list[int]:
    """Return the number of alarms of each draw: patients in the order of their ids, so many at a time."""
    everyone = features.filter(kind=digest.EVERYONE)["subject_id"].sort()
    found: list[int] = []
    for number in range(DRAWS):
        chosen = everyone.slice(number * SIZE, SIZE)
        assert len(chosen) == SIZE, "too few fresh patients for so many draws"
        tally = digest.count(features.filter(pl.col("subject_id").is_in(chosen.to_list())))
        held = digest.digest(tally, release.vocabulary.cuts)
        answers = pl.DataFrame(schema=ANSWERS)
        found.append(len(watch(reference, Seen(LATEST, held, answers, answers)).alarms))
    return found


def wilson(hits: int, of: int) -> tuple[float, float]:
    """Return the 95 % interval of a share (Wilson 1927)."""
    z, share = 1.959964, hits / of
    centre = (share + z**2 / (2 * of)) / (1 + z**2 / of)
    half = z * (share * (1 - share) / of + z**2 / (4 * of**2)) ** 0.5 / (1 + z**2 / of)
    return max(0.0, centre - half), min(1.0, centre + half)


def reference_of(release: Release) -> Digests:
    """Return the digest of the demo's cohort, made once; probabilities are left out."""
    folder = RUNS / "monitoring"
    if not (folder / digests.FILE).is_file():
        folder.mkdir(parents=True, exist_ok=True)
        held = open_cohort(DEMO / "cohort")
        at = digests.latest(held)
        train, apart = (digests.chosen(held, at, splits) for splits in (("train",), digests.APART))
        tables = {k: v for k, v in digests.tallied(held, train).tables.items() if k[0] != "unknown"}
        tables |= {k: v for k, v in digests.tallied(held, apart).tables.items() if k[0] == "unknown"}
        made = digest.suppressed(Digest(tables, len(train)))
        digests.write(folder / digests.FILE, Digests(release.vocabulary.digest, {LATEST: made}, {}))
    return digests.read(folder)


def main() -> None:
    """Measure both rates; each arm once finished is kept."""
    release = open_release(DEMO / "release")
    reference = reference_of(release)
    kept = RUNS / "monitoring" / "arms.json"
    arms: dict[str, list[int]] = json.loads(kept.read_text()) if kept.is_file() else {}
    for name, shift in {"same_site": None, **SHIFTS}.items():
        if len(arms.get(name, [])) != DRAWS:
            arms[name] = alarms(reference, counted(release, shift), release)
            kept.write_text(json.dumps(arms))
        print(f"{name}: {sum(found > 0 for found in arms[name])} of {DRAWS} draws raise an alarm", flush=True)
    quiet = arms.pop("same_site")
    hits = {name: sum(found > 0 for found in arms[name]) for name in SHIFTS}
    worst = min(hits, key=lambda name: hits[name])
    told = ", ".join(f"{name} {number}" for name, number in hits.items())
    about = f"draws of {SIZE} patients that share nobody; reference {reference.moments[LATEST].everyone:,} patients"
    limits = "records, codes, values and unknown codes; probabilities and labels are not part of it"
    common = partial(Figure, unit="fraction", command=COMMAND, count=DRAWS, seeds=(SEED,))
    low, high = wilson(hits[worst], DRAWS)
    note = f"the least found of {len(SHIFTS)} planted shifts, {worst}; {about}; found of {DRAWS} each: {told}; {limits}"
    common(name="monitor.detection_rate", value=hits[worst] / DRAWS, lower=low, upper=high, note=note).write()
    raised = sum(found > 0 for found in quiet)
    low, high = wilson(raised, DRAWS)
    note = f"same simulator, another seed; {about}; any alarm on the page at alpha 0.01; {limits}"
    common(name="monitor.false_alarm_rate", value=raised / DRAWS, lower=low, upper=high, note=note).write()


if __name__ == "__main__":
    main()
