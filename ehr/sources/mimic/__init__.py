"""MIMIC-III and MIMIC-IV as they are published: a folder of CSV files, plain or gzip."""

from ehr.sources.mimic import reader

matches, open, scan = reader.matches, reader.open, reader.scan
