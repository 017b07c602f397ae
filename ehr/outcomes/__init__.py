"""Outcomes: what to predict, when, and how far ahead; and the labels that follow."""
