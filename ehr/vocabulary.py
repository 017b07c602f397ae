"""Codes to token ids: value bins, ancestors, and the settings of tokenising; frozen, with a digest."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from ehr.codes import ancestors_of, distinct, match
from ehr.events import BIRTH, DEATH

PAD, UNK, MASK = 0, 1, 2
SPECIAL = ("[PAD]", "[UNK]", "[MASK]")
SKETCH = 512
COUNTS = pl.Schema(
    {
        "code": pl.String(),
        "patients": pl.Int64(),
        "rows": pl.Int64(),
        "valued": pl.Int64(),
        "sketch": pl.List(pl.Float32),
    }
)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How events become tokens; stored with the vocabulary, so that scoring needs nothing else."""

    min_patients: int = 10
    """Codes of fewer training patients get no token of their own."""
    bins: int = 10
    """Quantile bins of a value, at most."""
    min_rows: int = 200
    """Codes with fewer training values keep the bare code."""
    exclude: tuple[str, ...] = (BIRTH, DEATH, "RACE//*", "ETHNICITY//*")
    """Code patterns that never become input."""
    visit_gap_days: float = 30.0
    """A longer silence starts a new visit even while an encounter is open."""
    deduplicate: bool = True
    """Keep only the first of equal tokens in a visit."""
    changes: bool = False
    """Beside these, keep a value's token where the value before it of the same code in the visit was another."""

    def __post_init__(self) -> None:
        """Refuse settings that no data can meet."""
        if self.min_patients < 1 or self.min_rows < 1 or not 1 <= self.bins <= 100:
            raise ValueError("vocabulary: min_patients and min_rows must be at least 1, bins from 1 to 100")

    def content(self) -> dict[str, Any]:
        """Return settings as plain types; `changes` stands there only where it is on, as digests made before expect."""
        told = {**asdict(self), "exclude": list(self.exclude)}
        return told if self.changes else {name: value for name, value in told.items() if name != "changes"}

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Self:
        """Return settings from their JSON."""
        settings: dict[str, Any] = {**content, "exclude": tuple(content["exclude"])}
        return cls(**settings)


def count(events: pl.DataFrame) -> pl.DataFrame:
    """Count codes in one shard of training events.

    Args:
        events: EVENTS; all rows of a subject stand in this shard.

    Returns:
        COUNTS, sorted by code: patients, rows, rows with a finite value, and at most 512 of their order
        statistics, evenly spaced, so that the sketch does not hang on the order of rows.
    """
    groups = events.lazy().group_by("code")
    totals = groups.agg(
        pl.col("subject_id").n_unique().cast(pl.Int64).alias("patients"),
        pl.len().cast(pl.Int64).alias("rows"),
    )
    finite = events.lazy().select("code", "numeric_value").filter(pl.col("numeric_value").is_finite())
    values = finite.group_by("code").agg(pl.len().cast(pl.Int64).alias("valued"), pl.col("numeric_value").sort())
    counts = totals.join(values, on="code", how="left").sort("code").collect()
    sketches = [None if row is None else thin(row.to_numpy()) for row in counts["numeric_value"]]
    sketch = pl.Series("sketch", pa.array(sketches, type=pa.list_(pa.float32())), dtype=pl.List(pl.Float32))
    return counts.with_columns(pl.col("valued").fill_null(0), sketch).select(COUNTS.names())


def thin(values: npt.NDArray[np.float32]) -> list[float]:
    """Return at most 512 evenly spaced order statistics of sorted values."""
    if len(values) <= SKETCH:
        return values.tolist()
    at = np.round(np.linspace(0, len(values) - 1, SKETCH)).astype(np.int64)
    return values[at].tolist()


def merge(shards: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """Add up COUNTS of shards with distinct subjects; sketches become weighted order statistics.

    Returns:
        One row a code, sorted: patients, rows, valued, and `cuts`-ready lists `value` and `weight`.
    """
    counts = pl.concat(list(shards))
    totals = counts.group_by("code").agg(pl.col("patients", "rows", "valued").sum())
    weight = (pl.col("valued") / pl.col("sketch").list.len()).alias("weight")
    points = (
        counts.select("code", "sketch", weight)
        .filter(pl.col("sketch").list.len() > 0)
        .explode("sketch")
        .sort("code", "sketch", "weight")
        .group_by("code")
        .agg(pl.col("sketch").alias("value"), pl.col("weight"))
    )
    return totals.join(points, on="code", how="left").sort("code")


def quantile_cuts(value: Iterable[float], weight: Iterable[float], bins: int) -> tuple[float, ...]:
    """Return the inner cuts of equal-mass bins of weighted, sorted values; equal cuts are one.

    A value v falls into the bin of the number of cuts below it: bin 0 holds v <= first cut.
    """
    # Zero has two signs, which sort as equals: one of them, so that cuts do not hang on the order of rows.
    values, weights = np.asarray(list(value), np.float32) + 0, np.asarray(list(weight), np.float64)
    mass = np.cumsum(weights)
    targets = mass[-1] * np.arange(1, bins) / bins
    cuts = np.unique(values[np.minimum(np.searchsorted(mass, targets * (1 - 1e-12)), len(values) - 1)])
    return tuple(float(cut) for cut in cuts if cut < values[-1])


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """A frozen map between codes and token ids.

    Attributes:
        codes: token text by id; 0 is [PAD], 1 [UNK], 2 [MASK]; value tokens are CODE#q3.
        patients: training patients by id, 0 for special tokens and pure ancestors.
        cuts: inner cuts of value bins by bare code.
        ancestors: ids of a token's ancestors by id, nearest first.
        settings: how events become tokens.
        backoff: nearest ancestor's id of codes without a token of their own, where the source's metadata gave it.
    """

    codes: tuple[str, ...]
    patients: tuple[int, ...]
    cuts: Mapping[str, tuple[float, ...]]
    ancestors: tuple[tuple[int, ...], ...]
    settings: Settings = field(default_factory=Settings)
    backoff: Mapping[str, int] = field(default_factory=dict[str, int])

    @classmethod
    def fit(
        cls,
        counts: pl.DataFrame,
        settings: Settings | None = None,
        parents: Mapping[str, tuple[str, ...]] | None = None,
    ) -> Self:
        """Choose tokens from the merged counts of the training split.

        Args:
            counts: what `merge` returned.
            settings: thresholds; defaults where None.
            parents: parent codes by code, from the source's metadata.

        Raises:
            ValueError: no code reaches `min_patients`.
        """
        settings = settings or Settings()
        kept = counts.filter(pl.col("patients") >= settings.min_patients)
        kept = kept.filter(~pl.Series(match(kept["code"], settings.exclude), dtype=pl.Boolean))
        if kept.is_empty():
            raise ValueError(
                f"vocabulary: no code has {settings.min_patients} training patients; lower min_patients or add patients"
            )
        patients: dict[str, int] = {}
        cuts: dict[str, tuple[float, ...]] = {}
        for row in kept.iter_rows(named=True):
            patients[row["code"]] = row["patients"]
            if row["valued"] >= settings.min_rows:
                cuts[row["code"]] = quantile_cuts(row["value"], row["weight"], settings.bins)
                patients.update({f"{row['code']}#q{i}": row["patients"] for i in range(len(cuts[row["code"]]) + 1)})
        chains = {code: ancestors_of(code, parents) for code in patients}
        extra = sorted({ancestor for chain in chains.values() for ancestor in chain} - set(patients))
        codes = (*SPECIAL, *patients, *extra)
        index = {code: i for i, code in enumerate(codes)}
        ancestors = tuple(
            tuple(index[a] for a in (chains.get(code) or ancestors_of(code, parents)) if a in index) for code in codes
        )
        known = (
            (code, next((index[a] for a in ancestors_of(code, parents) if a in index), UNK)) for code in parents or {}
        )
        return cls(
            codes=codes,
            patients=tuple(patients.get(code, 0) for code in codes),
            cuts=cuts,
            ancestors=ancestors,
            settings=settings,
            backoff={code: at for code, at in known if code not in index and at != UNK},
        )

    @property
    def size(self) -> int:
        """Number of token ids."""
        return len(self.codes)

    @cached_property
    def index(self) -> dict[str, int]:
        """Token ids by text."""
        return {code: i for i, code in enumerate(self.codes)}

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the content, hexadecimal."""
        return hashlib.sha256(json.dumps(self.content(), sort_keys=True, ensure_ascii=False).encode()).hexdigest()

    def content(self) -> dict[str, Any]:
        """Return the content as plain types."""
        return {
            "codes": list(self.codes),
            "patients": list(self.patients),
            "cuts": {code: list(cuts) for code, cuts in self.cuts.items()},
            "ancestors": [list(chain) for chain in self.ancestors],
            "settings": self.settings.content(),
            "backoff": dict(self.backoff),
        }

    def nearest(self, code: str) -> int:
        """Return the id of a code, else of its nearest known ancestor, else [UNK]."""
        if code in self.index:
            return self.index[code]
        if code in self.backoff:
            return self.backoff[code]
        return next((self.index[above] for above in ancestors_of(code) if above in self.index), UNK)

    def lookup(self, codes: list[str]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
        """Return ids of distinct codes and their cuts.

        Returns:
            ids i32 [C]; cuts f32 [C, 99 at most], rows padded with +inf; codes without cuts are all +inf.
        """
        ids = np.array([self.nearest(code) for code in codes], dtype=np.int32)
        width = max((len(cuts) for cuts in self.cuts.values()), default=0)
        table = np.full((len(codes), width), np.inf, dtype=np.float32)
        for row, code in enumerate(codes):
            cuts = self.cuts.get(code, ())
            table[row, : len(cuts)] = cuts
        return ids, table

    def encode(self, code: pl.Series, value: pl.Series) -> npt.NDArray[np.int32]:
        """Return the token id of each event; an unseen code is its nearest known ancestor, else [UNK].

        Args:
            code: codes, str [N].
            value: numeric values, f32 [N]; null or not finite gives the bare code.
        """
        names, position = distinct(code)
        return self.encode_positions(names, position, value.cast(pl.Float32).fill_null(np.nan).to_numpy())

    def encode_positions(
        self, codes: list[str], position: npt.NDArray[np.int32], value: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.int32]:
        """Return token ids of events given as positions into distinct codes (see `encode`)."""
        ids, table = self.lookup(codes)
        token = ids[position]
        fused = np.array([code in self.cuts for code in codes], dtype=bool)
        rows = np.flatnonzero(fused[position] & np.isfinite(value))
        if len(rows):
            # Value tokens stand right behind their bare code, in the order of bins.
            bins = np.zeros(len(rows), dtype=np.int32)
            at, held = position[rows], value[rows]
            for cut in range(table.shape[1]):
                bins += held > table[at, cut]
            first = np.array([self.index.get(f"{code}#q0", 0) for code in codes], dtype=np.int32)
            token[rows] = first[at] + bins
        return token

    def bare(self) -> npt.NDArray[np.int64]:
        """Return the id of each token without its value bin, i64 [V]."""
        found = np.arange(self.size, dtype=np.int64)
        for code, cuts in self.cuts.items():
            first = self.index.get(f"{code}#q0")
            if first is not None:
                found[first : first + len(cuts) + 1] = self.index[code]
        return found

    def levels(self) -> npt.NDArray[np.float32]:
        """Return where the middle of each value token's bin lies in the distribution of its code, f32 [V], else NaN."""
        found = np.full(self.size, np.nan, dtype=np.float32)
        for code, cuts in self.cuts.items():
            first, bins = self.index.get(f"{code}#q0"), len(cuts) + 1
            if first is not None:
                found[first : first + bins] = (np.arange(bins) + 0.5) / bins
        return found

    def count_unknown(self, codes: pl.Series) -> tuple[int, int]:
        """Return how many events may become input, and of those the ones without a token or known ancestor.

        Args:
            codes: of events, str or categorical [N].
        """
        names, position = distinct(codes)
        rows = np.bincount(position, minlength=len(names))
        read = ~np.array(match(names, self.settings.exclude), dtype=bool)
        unknown = np.array([self.nearest(name) == UNK for name in names], dtype=bool)
        return int(rows[read].sum()), int(rows[read & unknown].sum())

    def ancestor_lists(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return ancestors as a ragged array: offsets i64 [V + 1] and ids i64 [N]."""
        lengths = [len(chain) for chain in self.ancestors]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        ids = np.array([a for chain in self.ancestors for a in chain], dtype=np.int64)
        return offsets, ids

    def save(self, path: Path) -> None:
        """Write JSON with the digest; equal vocabularies give equal bytes."""
        content = {**self.content(), "digest": self.digest}
        path.write_text(json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a vocabulary and check its digest.

        Raises:
            ValueError: the file is not a vocabulary, or its content does not match its digest.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            vocabulary = cls(
                codes=tuple(content["codes"]),
                patients=tuple(content["patients"]),
                cuts={code: tuple(cuts) for code, cuts in content["cuts"].items()},
                ancestors=tuple(tuple(chain) for chain in content["ancestors"]),
                settings=Settings.of(content["settings"]),
                backoff=dict(content["backoff"]),
            )
            digest = content["digest"]
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ValueError(
                f"{path}: not a vocabulary of anamnesis; expected vocabulary.json of a cohort or release"
            ) from None
        if vocabulary.digest != digest:
            raise ValueError(f"{path}: its content does not match its digest; copy it again from where it was made")
        return vocabulary
