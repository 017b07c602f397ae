"""How good probabilities are: measures, their intervals, curves, and the table of scores."""
