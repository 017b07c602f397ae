"""Concept ids to codes such as SNOMED//44054006, and the parents that the vocabulary gives them."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import polars as pl

from ehr.sources.omop.columns import integer, text
from ehr.sources.omop.files import Table, damaged

# All others are written in capitals, blanks as underscores.
PREFIXES: Mapping[str, str] = MappingProxyType({"CPT4": "CPT", "ICD9Proc": "ICD9PCS"})
CONCEPTS = pl.Schema({"concept": pl.Int64(), "code": pl.String(), "name": pl.String()})
EDGES = pl.Schema({"child": pl.Int64(), "parent": pl.Int64()})


class Concepts(NamedTuple):
    """What the vocabulary tells of the concepts in use.

    Attributes:
        codes: CONCEPTS, one row a concept.
        parents: parent codes by code.
    """

    codes: pl.DataFrame
    parents: dict[str, tuple[str, ...]]

    def attach(self, frame: pl.LazyFrame, key: str, column: str, to: str) -> pl.LazyFrame:
        """Add the code or name of the concept in column `key`, as column `to`; the order of rows stays."""
        known = self.codes.lazy().select(pl.col("concept").alias(key), pl.col(column).alias(to))
        return frame.join(known, on=key, how="left", maintain_order="left")


def load(tables: Mapping[str, Table], columns: Mapping[str, tuple[str, ...]]) -> Concepts:
    """Read the concepts that the tables use, and those above them.

    A whole vocabulary has millions of concepts, a database uses thousands: only those are held in memory.

    Args:
        tables: by name.
        columns: columns of concept ids by table.

    Raises:
        ValueError: a table cannot be read, or a vocabulary lacks a column.
    """
    if "concept" not in tables:
        return Concepts(pl.DataFrame(schema=CONCEPTS), {})
    used = [in_use(tables[name], ids) for name, ids in columns.items() if name in tables]
    ids = pl.concat([pl.Series("concept", [], dtype=pl.Int64), *used]).unique()
    edges = edges_above(tables, ids)
    ids = pl.concat([ids, edges["child"], edges["parent"]]).unique()
    codes = codes_of(tables["concept"], ids)
    return Concepts(codes, parents(codes, edges))


def in_use(table: Table, columns: tuple[str, ...]) -> pl.Series:
    """Return the concept ids in some columns of a table, each once."""
    held = [column for column in columns if column in table.types]
    each = [table.frame.select(integer(table, column).alias("concept")).unique() for column in held]
    if not each:
        return pl.Series("concept", [], dtype=pl.Int64)
    return collect(pl.concat(each).unique().drop_nulls(), table)["concept"]


def codes_of(table: Table, ids: pl.Series) -> pl.DataFrame:
    """Return CONCEPTS of some ids, sorted by id."""
    for column in ("concept_id", "vocabulary_id", "concept_code"):
        table.require(column)
    vocabulary = text(table, "vocabulary_id")
    upper = vocabulary.str.to_uppercase().str.replace_all(r"\s+", "_")
    prefix = vocabulary.replace_strict(PREFIXES, default=upper, return_dtype=pl.String)
    code = pl.concat_str(prefix, pl.lit("//"), text(table, "concept_code")).alias("code")
    name = text(table, "concept_name").alias("name")
    found = table.frame.select(integer(table, "concept_id").alias("concept"), code, name)
    wanted = found.join(pl.LazyFrame({"concept": ids}), on="concept", how="semi")
    return collect(wanted, table).unique("concept", keep="first").sort("concept")


def edges_above(tables: Mapping[str, Table], ids: pl.Series) -> pl.DataFrame:
    """Return EDGES from some concepts upward, each level one edge, from the table that has them."""
    for name in ("concept_ancestor", "concept_relationship"):
        if name in tables:
            edges = from_ancestors(tables[name], ids) if name == "concept_ancestor" else from_is_a(tables[name], ids)
            if len(edges):
                return edges.unique().sort("child", "parent")
    return pl.DataFrame(schema=EDGES)


def from_ancestors(table: Table, ids: pl.Series) -> pl.DataFrame:
    """Return EDGES of concept_ancestor: direct ones, below which a concept in use stands."""
    for column in ("ancestor_concept_id", "descendant_concept_id", "min_levels_of_separation"):
        table.require(column)
    pairs = table.frame.select(
        integer(table, "descendant_concept_id").alias("child"),
        integer(table, "ancestor_concept_id").alias("parent"),
        integer(table, "min_levels_of_separation").alias("levels"),
    ).filter(pl.col("levels") > 0)
    above = pairs.join(pl.LazyFrame({"child": ids}), on="child", how="semi").select("parent").unique()
    within = pl.concat([ids.rename("child"), collect(above, table)["parent"].rename("child")]).unique()
    direct = pairs.filter(pl.col("levels") == 1).join(pl.LazyFrame({"child": within}), on="child", how="semi")
    return collect(direct.select(EDGES.names()), table)


def from_is_a(table: Table, ids: pl.Series) -> pl.DataFrame:
    """Return EDGES of concept_relationship's `Is a`, climbed level by level."""
    for column in ("concept_id_1", "concept_id_2", "relationship_id"):
        table.require(column)
    valid = text(table, "invalid_reason").is_null()
    pairs = table.frame.filter((text(table, "relationship_id") == "Is a") & valid).select(
        integer(table, "concept_id_1").alias("child"), integer(table, "concept_id_2").alias("parent")
    )
    edges = collect(pairs.filter(pl.col("child") != pl.col("parent")), table)
    seen = frontier = ids.unique()
    while len(frontier):
        above = edges.filter(pl.col("child").is_in(frontier.implode()))["parent"].unique()
        frontier = above.filter(~above.is_in(seen.implode()))
        seen = pl.concat([seen, frontier])
    return edges.filter(pl.col("child").is_in(seen.implode()))


def parents(codes: pl.DataFrame, edges: pl.DataFrame) -> dict[str, tuple[str, ...]]:
    """Return parent codes by code; concepts that the vocabulary does not name are left out."""
    child = codes.select(pl.col("concept").alias("child"), pl.col("code"))
    above = codes.select(pl.col("concept").alias("parent"), pl.col("code").alias("above"))
    named = edges.join(child, on="child").join(above, on="parent").drop_nulls()
    chains = named.filter(pl.col("code") != pl.col("above")).group_by("code").agg(pl.col("above").unique().sort())
    chains = chains.sort("code")
    return {code: tuple(found) for code, found in zip(chains["code"], chains["above"].to_list(), strict=True)}


def collect(frame: pl.LazyFrame, table: Table) -> pl.DataFrame:
    """Collect a few columns of a table, batch by batch.

    Raises:
        ValueError: its file is damaged.
    """
    try:
        return frame.collect(engine="streaming")
    except (pl.exceptions.PolarsError, OSError) as error:
        raise damaged(table.name, error) from None
