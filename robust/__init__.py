"""Robustness for any module and any float tensor: threats, attacks and objectives."""
