"""Groups of patients that an evaluation looks at apart: age bands, and what a record states once and for all."""

import numpy as np
import numpy.typing as npt
import polars as pl

from ehr.metrics.subgroups import age_bands
from pipelines.cohort import Cohort, events

Names = npt.NDArray[np.str_]
MOST = 12
"""Groups of an attribute, at most; an attribute of more is no grouping."""
UNKNOWN = "not stated"


def groups(cohort: Cohort, subject: npt.NDArray[np.int64], age_years: npt.NDArray[np.float64]) -> dict[str, Names]:
    """Return, by attribute, the group of each sample.

    Static events such as SEX//F, SITE//A or RACE//... are attributes, whether or not they are input to a model.

    Args:
        cohort: whose static events are read.
        subject: of each sample, i64 [N].
        age_years: at the prediction time, NaN where not known, f64 [N].
    """
    found: dict[str, Names] = {}
    patients, place = np.unique(subject, return_inverse=True)
    held = statics(cohort, patients)
    for attribute in held["attribute"].unique().sort().to_list():
        own = held.filter(attribute=attribute)
        if not 2 <= own["group"].n_unique() <= MOST:
            continue
        names = np.full(len(patients), UNKNOWN, dtype=object)
        names[np.searchsorted(patients, own["subject_id"].to_numpy())] = own["group"].to_list()
        found[attribute.lower()] = names[place].astype(np.str_)
    if not np.isnan(age_years).all():
        bands = age_bands(np.nan_to_num(age_years, nan=0.0))
        found["age"] = np.where(np.isnan(age_years), UNKNOWN, bands)
    return found


def statics(cohort: Cohort, patients: npt.NDArray[np.int64]) -> pl.DataFrame:
    """Return subject_id, attribute and group: the first static code SYSTEM//GROUP of each patient and system."""
    asked = pl.LazyFrame({"subject_id": patients})
    parts = pl.col("code").str.splitn("//", 2)
    frames = [
        shard.filter(pl.col("time").is_null() & pl.col("code").str.contains("//", literal=True))
        .join(asked, on="subject_id", how="semi", maintain_order="left")
        .select("subject_id", parts.struct[0].alias("attribute"), parts.struct[1].alias("group"))
        .unique(["subject_id", "attribute"], keep="first", maintain_order=True)
        for shard in events(cohort)
    ]
    return pl.concat(frames).sort("subject_id", "attribute").collect()
