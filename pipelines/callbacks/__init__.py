"""Callbacks for Lightning, one noun a file."""
