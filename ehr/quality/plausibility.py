"""Plausible ranges of values by code; what lies outside is a typing error, another unit or a placeholder."""

from collections.abc import Mapping

import polars as pl

Range = tuple[float, float]

# Wide enough for any living patient, in the units that LOINC gives as examples.
RANGES: Mapping[str, Range] = {
    "LOINC//8302-2": (20, 260),  # body height, cm
    "LOINC//29463-7": (0.3, 650),  # body weight, kg
    "LOINC//3141-9": (0.3, 650),  # body weight measured, kg
    "LOINC//39156-5": (5, 150),  # body mass index, kg/m2
    "LOINC//9843-4": (15, 80),  # head circumference, cm
    "LOINC//8867-4": (0, 350),  # heart rate, 1/min
    "LOINC//9279-1": (0, 120),  # respiratory rate, 1/min
    "LOINC//8480-6": (0, 370),  # systolic pressure, mmHg
    "LOINC//8462-4": (0, 250),  # diastolic pressure, mmHg
    "LOINC//8310-5": (20, 46),  # body temperature, Cel
    "LOINC//2708-6": (0, 100),  # oxygen saturation, %
    "LOINC//59408-5": (0, 100),  # oxygen saturation by pulse oximetry, %
    "LOINC//72514-3": (0, 10),  # pain severity, 0 to 10
    "LOINC//4548-4": (1, 25),  # haemoglobin A1c, %
    "LOINC//2339-0": (1, 2000),  # glucose, mg/dL
    "LOINC//2345-7": (1, 2000),  # glucose in serum, mg/dL
    "LOINC//718-7": (1, 30),  # haemoglobin, g/dL
    "LOINC//4544-3": (3, 85),  # haematocrit, %
    "LOINC//20570-8": (3, 85),  # haematocrit, %
    "LOINC//787-2": (30, 180),  # mean red cell volume, fL
    "LOINC//777-3": (0, 3000),  # platelets, 10*3/uL
    "LOINC//2160-0": (0, 50),  # creatinine, mg/dL
    "LOINC//38483-4": (0, 50),  # creatinine in blood, mg/dL
    "LOINC//33914-3": (0, 300),  # glomerular filtration rate, mL/min/1.73 m2
    "LOINC//3094-0": (0, 400),  # urea nitrogen, mg/dL
    "LOINC//6299-2": (0, 400),  # urea nitrogen in blood, mg/dL
    "LOINC//2951-2": (80, 220),  # sodium, mmol/L
    "LOINC//2947-0": (80, 220),  # sodium in blood, mmol/L
    "LOINC//2823-3": (0.5, 15),  # potassium, mmol/L
    "LOINC//6298-4": (0.5, 15),  # potassium in blood, mmol/L
    "LOINC//2075-0": (40, 180),  # chloride, mmol/L
    "LOINC//2069-3": (40, 180),  # chloride in blood, mmol/L
    "LOINC//2028-9": (1, 80),  # carbon dioxide, mmol/L
    "LOINC//17861-6": (1, 30),  # calcium, mg/dL
    "LOINC//1751-7": (0, 10),  # albumin, g/dL
    "LOINC//1975-2": (0, 80),  # bilirubin, mg/dL
    "LOINC//2093-3": (10, 2000),  # cholesterol, mg/dL
    "LOINC//2085-9": (0, 300),  # HDL cholesterol, mg/dL
    "LOINC//18262-6": (0, 1000),  # LDL cholesterol, mg/dL
    "LOINC//2571-8": (0, 20000),  # triglycerides, mg/dL
}


def implausible(events: pl.DataFrame, ranges: Mapping[str, Range] = RANGES) -> int:
    """Count values outside the plausible range of their code.

    Args:
        events: with code and numeric_value.
        ranges: low and high, both plausible still, by code.
    """
    held = pl.col("numeric_value").is_not_null() & pl.col("code").is_in(list(ranges))
    found = events.lazy().select("code", "numeric_value").filter(held).collect()
    low = found["code"].replace_strict({code: float(low) for code, (low, _) in ranges.items()}, return_dtype=pl.Float32)
    high = found["code"].replace_strict(
        {code: float(high) for code, (_, high) in ranges.items()}, return_dtype=pl.Float32
    )
    return int(((found["numeric_value"] < low) | (found["numeric_value"] > high)).sum())
