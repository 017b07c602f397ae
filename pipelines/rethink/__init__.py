"""Rethinking with retrieval: sampled paths vote with how well retrieved evidence supports their steps."""
