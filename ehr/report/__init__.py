"""The report of an evaluation: figures and one self-contained page."""
