"""Rethinking over text: recorded or generated chains of thought, checked against a pool of facts."""
