"""Composition and command line: the verbs of anamnesis."""
