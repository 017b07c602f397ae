"""Readers, one a format: each turns a path into a lazy frame of EVENTS."""
