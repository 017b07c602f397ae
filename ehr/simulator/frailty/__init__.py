"""A second mechanism: a hidden frailty that drifts, and visits that bring visits; no disease raises another."""
