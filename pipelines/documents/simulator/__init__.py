"""A corpus with MAUD's structure whose cues, and so the best AUPR that any reader can reach, are known."""
