"""Rethinking on patients: futures drawn from the decoder, weighed by records, similar patients and code knowledge."""
