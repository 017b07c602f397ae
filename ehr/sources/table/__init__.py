"""Plain tables, read by a column map: a YAML file that says what each column means."""

from ehr.sources.table import reader

open, scan = reader.open, reader.scan
