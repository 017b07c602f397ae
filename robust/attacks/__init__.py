"""Attacks: what is moved within a threat so that answers turn wrong."""
