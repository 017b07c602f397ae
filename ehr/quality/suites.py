# pyright: reportPrivateImportUsage=false
# Great Expectations marks none of its public names as exported.
"""Great Expectations suites, and the only importer of it: named gates, results without any value of a record."""

import logging
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")

import great_expectations as gx
import great_expectations.expectations as gxe

from ehr.events import EVENTS
from ehr.quality.plausibility import RANGES, Range
from ehr.quality.profile import profile_row
from ehr.quality.rows import LARGEST, tables
from ehr.quality.thresholds import Measure, Thresholds, Violation, message

# BASIC would keep offending values of records, in results and in Data Docs.
WITHOUT_VALUES = "BOOLEAN_ONLY"
COUNTS_ONLY = {"result_format": "BASIC", "partial_unexpected_count": 0}


class Gate(NamedTuple):
    """One expectation and how it came out: counts and shares, never values."""

    suite: str
    expectation: str
    success: bool
    found: int
    of: int
    share: float
    bound: float
    where: str


def check(
    suite: str, measures: Mapping[str, Measure], thresholds: Thresholds, *, data_docs: Path | None = None
) -> list[Gate]:
    """Hold what was measured against what is borne, as one Great Expectations suite.

    Args:
        suite: its name: events, timelines or predictions.
        measures: by gate; each gate is a column of the table that the suite runs over.
        thresholds: what is borne.
        data_docs: a folder for Great Expectations' own pages, which load scripts from public hosts.
    """
    table = pl.DataFrame({gate: [held.found] for gate, held in measures.items()}).to_pandas()
    expectations = [
        gxe.ExpectColumnSumToBeBetween(column=gate, min_value=0, max_value=thresholds.allowed(gate, held.of))
        for gate, held in measures.items()
    ]
    outcome = validate(suite, table, expectations, WITHOUT_VALUES, data_docs)
    success = {r.expectation_config.kwargs["column"]: bool(r.success) for r in outcome.results}
    return [
        Gate(suite, gate, success[gate], held.found, held.of, held.share, thresholds.bound(gate), held.where)
        for gate, held in measures.items()
    ]


def enforce(gates: Sequence[Gate]) -> None:
    """Stop where a gate does not hold.

    Raises:
        ValueError: one line: the gate, the count, the first offenders as file:row, the setting that relaxes it.
    """
    failed = [gate for gate in gates if not gate.success]
    if failed:
        raise ValueError(message([Violation(g.expectation, g.found, g.share, g.bound, g.where) for g in failed]))


def validate(
    name: str,
    table: Any,  # noqa: ANN401  a pandas frame; Great Expectations types it so
    expectations: Sequence[Any],
    result_format: Any,  # noqa: ANN401
    data_docs: Path | None = None,
) -> Any:  # noqa: ANN401
    """Run expectations over a pandas frame in a context of its own, which leaves nothing on disk.

    Args:
        name: of the suite.
        table: pandas frame.
        expectations: of Great Expectations.
        result_format: how much of a result is kept.
        data_docs: a folder for pages, or None.
    """
    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context: Any = gx.get_context(mode="ephemeral")
        context.variables.progress_bars = {"globally": False}
        batch = (
            context.data_sources.add_pandas(name).add_dataframe_asset(name).add_batch_definition_whole_dataframe(name)
        )
        suite = context.suites.add(gx.ExpectationSuite(name=name, expectations=list(expectations)))
        definition = context.validation_definitions.add(gx.ValidationDefinition(name=name, data=batch, suite=suite))
        if data_docs is None:
            return definition.run(result_format=result_format, batch_parameters={"dataframe": table})
        return documented(context, definition, table, result_format, data_docs)


def documented(context: Any, definition: Any, table: Any, result_format: Any, folder: Path) -> Any:  # noqa: ANN401
    """Run a validation and render Great Expectations' Data Docs of it into a folder."""
    store = {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(folder.resolve())}
    site = {
        "class_name": "SiteBuilder",
        "store_backend": store,
        "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
    }
    context.add_data_docs_site(site_name="local", site_config=site)
    action = gx.checkpoint.UpdateDataDocsAction(name="docs", site_names=["local"])
    checkpoint = context.checkpoints.add(
        gx.Checkpoint(
            name=definition.name, validation_definitions=[definition], actions=[action], result_format=result_format
        )
    )
    outcome = checkpoint.run(batch_parameters={"dataframe": table})
    return next(iter(outcome.run_results.values()))


def profile_rows(
    events: pl.DataFrame, *, name: str, now: int, ranges: Mapping[str, Range] | None = None
) -> pl.DataFrame:
    """Count what `profile.sift` counts in one shard, row by row, with Great Expectations over pandas.

    A second way to the same numbers, several times slower and larger: `--row-level` takes it.

    Args:
        events: EVENTS in canonical order, with the optional column reject.
        name: file to name.
        now: microseconds since 1970; later rows lie in the future.
        ranges: plausible ranges by code, beside and over the built-in ones.

    Returns:
        PROFILE.
    """
    found = tables(events, now=now, ranges={**RANGES, **(ranges or {})})
    counts = {
        **unexpected(f"{name}: rows", found.rows, row_expectations()),
        **unexpected(f"{name}: values", found.usable, value_expectations()),
        **unexpected(f"{name}: patients", found.patients, patient_expectations()),
        "rows": len(found.rows),
        "patients": len(found.patients),
        "valued": int(found.usable["numeric_value"].notna().sum()),
        "statics": int(found.usable["time"].isna().sum()),
    }
    return profile_row(name, counts)


def row_expectations() -> dict[str, list[Any]]:
    """Return what each row is held to, by gate."""
    return {
        "null_subject": [gxe.ExpectColumnValuesToNotBeNull(column="subject_id")],
        "negative_subject": [gxe.ExpectColumnValuesToBeBetween(column="subject_id", min_value=0)],
        "null_code": [gxe.ExpectColumnValuesToNotBeNull(column="code")],
        "not_finite": [
            gxe.ExpectColumnValuesToBeBetween(column="numeric_value", min_value=-LARGEST, max_value=LARGEST)
        ],
        "unreadable": [gxe.ExpectColumnValuesToBeNull(column="reject")],
        "future": [at_least("now", "time")],
        "before_birth": [at_least("day", "birth_day")],
        "after_death": [at_least("last_day", "day")],
        "out_of_order": [at_least("time", "time_before"), at_least("subject_id", "subject_before")],
    }


def value_expectations() -> dict[str, list[Any]]:
    """Return what each row that can be used is held to, by gate."""
    return {
        "implausible": [at_least("numeric_value", "low"), at_least("high", "numeric_value")],
        "duplicates": [gxe.ExpectCompoundColumnsToBeUnique(column_list=EVENTS.names())],
    }


def patient_expectations() -> dict[str, list[Any]]:
    """Return what each patient is held to, by gate."""
    return {
        "no_birth": [gxe.ExpectColumnValuesToNotBeNull(column="birth_day")],
        "births_twice": [gxe.ExpectColumnValuesToBeBetween(column="births", max_value=1)],
        "deaths_twice": [gxe.ExpectColumnValuesToBeBetween(column="deaths", max_value=1)],
    }


def at_least(column: str, other: str) -> Any:  # noqa: ANN401
    """Expect one column at least as large as another, where both are known."""
    return gxe.ExpectColumnPairValuesAToBeGreaterThanB(
        column_A=column, column_B=other, or_equal=True, ignore_row_if="either_value_is_missing"
    )


def unexpected(name: str, table: Any, expectations: Mapping[str, Sequence[Any]]) -> dict[str, int]:  # noqa: ANN401
    """Return how many rows of a pandas frame do not meet the expectations, by gate."""
    gates = [gate for gate, held in expectations.items() for _ in held]
    outcome = validate(name, table, [item for held in expectations.values() for item in held], COUNTS_ONLY)
    counts = dict.fromkeys(expectations, 0)
    # Results come back in the order of the suite.
    for gate, result in zip(gates, outcome.results, strict=True):
        counts[gate] += int(result.result.get("unexpected_count", 0))
    return counts
