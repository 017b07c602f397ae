"""TRUTH: true risks of a block, at one date for diseases and death, at discharges for readmission."""

import polars as pl

TRUTH = pl.Schema(
    {
        "subject_id": pl.Int64(),
        "prediction_time": pl.Datetime("us"),
        "outcome": pl.String(),
        "horizon_days": pl.Int32(),
        "risk": pl.Float32(),
    }
)
INDEX_DAY = 18_262.0
"""2020-01-01, days since 1970."""
GAP_DAYS = 30.0
HORIZONS_DAYS = (365, 1095)
ADMISSION_DAYS, READMISSION_DAYS = 365, 30
READMISSION_FROM, READMISSION_UNTIL = 16_801.0, 18_993.0
"""2016-01-01 and 2022-01-01: discharges in between are asked for readmission."""
