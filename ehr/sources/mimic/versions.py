"""Which tables MIMIC-III and MIMIC-IV have, and what their columns are called."""

from collections.abc import Mapping

import polars as pl

from ehr.sources.mimic import tables
from ehr.sources.mimic.tables import Table, cell, coded

TRANSFER = "TRANSFER"
MOVED = cell("eventtype").str.to_lowercase().ne_missing("discharge")


def moves(unit: str) -> Table:
    """Return moves between units; in MIMIC-III a move to no unit of intensive care is one to a ward."""
    named = coded(TRANSFER, unit)
    code = named if unit == "careunit" else pl.coalesce(named, pl.lit("TRANSFER//WARD"))
    return tables.timed("transfers", code, "intime", unit, "eventtype")._replace(keep=MOVED)


SHARED = (
    *tables.ADMISSIONS,
    *tables.stays(),
    tables.timed("services", coded("SERVICE", "curr_service"), "transfertime", "curr_service"),
    tables.LABS,
    tables.MICROBIOLOGY,
    tables.CHART,
    tables.OUTPUT,
    tables.billed("drgcodes", coded("DRG", "drg_type", "drg_code"), "drg_type", "drg_code"),
)
THREE = (
    *SHARED,
    moves("curr_careunit"),
    tables.prescribed(tables.day(cell("startdate"), "startdate"), "startdate"),
    tables.infusions("inputevents_mv", "starttime"),
    tables.infusions("inputevents_cv", "charttime"),
    tables.procedures("procedureevents_mv"),
    tables.billed("diagnoses_icd", tables.icd9("icd9_code"), "icd9_code"),
    tables.billed("procedures_icd", tables.icd9_procedure("icd9_code"), "icd9_code"),
    tables.billed("cptevents", coded("CPT", "cpt_cd"), "cpt_cd"),
)
ICD_COLUMNS = ("icd_code", "icd_version")
ICD10 = cell("icd_code").str.replace_all(".", "", literal=True)
FOUR = (
    *SHARED,
    moves("careunit"),
    tables.prescribed(tables.at("starttime"), "starttime"),
    tables.infusions("inputevents", "starttime"),
    tables.procedures("procedureevents"),
    tables.billed(
        "diagnoses_icd",
        tables.of_version(tables.icd9("icd_code"), pl.lit("ICD10CM//") + tables.dotted(ICD10, pl.lit(3))),
        *ICD_COLUMNS,
    ),
    tables.billed(
        "procedures_icd",
        tables.of_version(tables.icd9_procedure("icd_code"), pl.lit("ICD10PCS//") + ICD10),
        *ICD_COLUMNS,
    ),
    tables.billed("hcpcsevents", coded("HCPCS", "hcpcs_cd"), "hcpcs_cd"),
)
# By version: the tables, stably by stage, so that events of one moment stand in the order of stages.
TABLES: Mapping[str, tuple[Table, ...]] = {
    "III": tuple(sorted(THREE, key=lambda table: table.stage)),
    "IV": tuple(sorted(FOUR, key=lambda table: table.stage)),
}
