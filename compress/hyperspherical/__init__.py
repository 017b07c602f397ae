"""Weights on the unit sphere: ternary rows and the schedules that lead to them."""
