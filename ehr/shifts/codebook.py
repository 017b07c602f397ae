"""What corruptions of codes need to know of a cohort: its training patients' codes, and nothing of anyone else."""

from collections.abc import Mapping
from typing import NamedTuple, Self

import polars as pl

from ehr.codes import derived_ancestors
from ehr.events import BIRTH
from ehr.shifts.draws import mixed, word_of
from ehr.shifts.frame import coded, system

ICD = ("ICD10CM", "ICD10", "ICD9CM", "ICD9")
DIAGNOSES = (*ICD, "SNOMED", "DIAGNOSIS")
DRUGS = ("ATC", "RXNORM", "NDC", "CVX", "MEDICATION")
LABS = ("LOINC", "LAB")
EVERYONE = "*"
BAND_YEARS = 20
NOWHERE = "LOCAL//unmapped"
"""A code that no vocabulary knows."""


class Codebook(NamedTuple):
    """Codes of a training split.

    Attributes:
        codes: code; patients, those who have it; category, its three characters (null outside ICD); siblings, other
            codes of the category; chance, by which a hospital has a code of its own for it, f64 in [0, 1).
        marginals: group (sex and band of age, or everyone), at (share of the group's events before this code), code.
        patients: training patients.
        there_and_back: an ICD code -> what is left of it when its system is changed and changed back.
    """

    codes: pl.DataFrame
    marginals: pl.DataFrame
    patients: int
    there_and_back: Mapping[str, str]

    @classmethod
    def fit(cls, events: pl.LazyFrame, equivalents: pl.DataFrame | None = None) -> Self:
        """Count the codes of training events.

        Args:
            events: EVENTS of training patients.
            equivalents: ICD9CM and ICD10CM codes that stand for each other, columns icd_9 and icd_10, with dots or
                without; without the table no code changes its system.
        """
        told = events.filter(coded())
        counts = told.group_by("code").agg(pl.col("subject_id").n_unique().cast(pl.Int64).alias("patients"))
        held = counts.sort("code").collect()
        names = held["code"].to_list()
        category = [category_of(name) for name in names]
        family: dict[str, list[str]] = {}
        for name, above in zip(names, category, strict=True):
            if above is not None:
                family.setdefault(above, []).append(name)
        siblings = [
            [other for other in family.get(above or "", []) if other != name]
            for name, above in zip(names, category, strict=True)
        ]
        chance = [mixed(word_of(name)) / 2**64 for name in names]
        codes = held.with_columns(
            pl.Series("category", category, dtype=pl.String),
            pl.Series("siblings", siblings, dtype=pl.List(pl.String)),
            pl.Series("chance", chance, dtype=pl.Float64),
        )
        patients = int(events.select(pl.col("subject_id").n_unique()).collect().item())
        changed = {} if equivalents is None else there_and_back(equivalents)
        return cls(codes, marginals(events), patients, {name: changed[name] for name in names if name in changed})

    def systems(self) -> set[str]:
        """Return the code systems of the training split."""
        return set(self.codes.select(system())["system"])


def category_of(code: str) -> str | None:
    """Return the three-character category of an ICD diagnosis, which may be the code itself; None for other codes."""
    held, _, body = code.partition("//")
    if held not in ICD or not body or "-" in body:
        return None
    above = derived_ancestors(code)
    return above[0] if above and "-" not in above[0] and len(above[0]) > len(held) + 3 else code


def groups() -> pl.Expr:
    """Return sex and band of age of each patient or record, from columns sex and age_years."""
    band = (pl.col("age_years").fill_null(0) // BAND_YEARS).cast(pl.Int64).cast(pl.String)
    return pl.concat_str(pl.col("sex").fill_null(""), pl.lit("|"), band).alias("group")


def people(frame: pl.LazyFrame, keys: tuple[str, ...], until: pl.Expr) -> pl.LazyFrame:
    """Return keys, and the group of each patient or record: sex and band of age at a time."""
    code, time = pl.col("code"), pl.col("time")
    born = time.filter(code == BIRTH).min()
    return (
        frame.group_by(keys)
        .agg(
            code.filter(code.str.starts_with("SEX//")).first().alias("sex"),
            ((until - born).dt.total_days() / 365.25).alias("age_years"),
        )
        .select(*keys, groups())
    )


def marginals(events: pl.LazyFrame) -> pl.DataFrame:
    """Return how often each code stands in the records of each group of patients, as shares that add up."""
    who = people(events, ("subject_id",), pl.col("time").max())
    told = events.filter(coded()).select("subject_id", "code").join(who, on="subject_id", how="left")
    own = told.group_by("group", "code").len()
    all_ = told.group_by("code").len().with_columns(pl.lit(EVERYONE).alias("group")).select("group", "code", "len")
    share = pl.col("len") / pl.col("len").sum().over("group")
    return (
        pl.concat([own, all_])
        .sort("group", "code")
        .with_columns((share.cum_sum().over("group") - share).alias("at"))
        .select("group", "at", "code")
        .sort("group", "at")
        .collect()
    )


def there_and_back(equivalents: pl.DataFrame) -> dict[str, str]:
    """Return what is left of each ICD code after its system is changed and changed back, by first equivalents.

    Raises:
        ValueError: the table has other columns.
    """
    missing = {"icd_9", "icd_10"} - set(equivalents.columns)
    if missing:
        raise ValueError(f"code map: no column {' and '.join(sorted(missing))}; expected icd_9 and icd_10")
    nine, ten = ([str(code).replace(".", "") for code in equivalents[name].to_list()] for name in ("icd_9", "icd_10"))
    forward: dict[str, str] = {}
    backward: dict[str, str] = {}
    for old, new in sorted(zip(nine, ten, strict=True)):
        forward.setdefault(old, new)
        backward.setdefault(new, old)
    found = {f"ICD10CM//{new}": forward.get(old) for new, old in backward.items()}
    other = {f"ICD9CM//{old}": backward.get(new) for old, new in forward.items()}
    dotted = {
        **{code: f"ICD10CM//{dot(body, 3)}" for code, body in found.items() if body},
        **{code: f"ICD9CM//{dot(body, 4 if body[0] == 'E' else 3)}" for code, body in other.items() if body},
    }
    # Codes are written with their dot, and without it.
    return {**dotted, **{with_dot(code): back for code, back in dotted.items()}}


def with_dot(code: str) -> str:
    """Return an ICD code with its dot."""
    held, _, body = code.partition("//")
    return f"{held}//{dot(body, 4 if held == 'ICD9CM' and body[0] == 'E' else 3)}"


def dot(body: str, length: int) -> str:
    """Return the body of a code with a dot after so many characters, where more follow."""
    return f"{body[:length]}.{body[length:]}" if len(body) > length else body
