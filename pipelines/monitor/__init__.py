"""Watching a model in use: who is scored, what it answers, and how right it was, against what it was made for."""
