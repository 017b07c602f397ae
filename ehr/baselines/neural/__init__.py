"""Networks that others would train on the same tokens, built from transformers' own parts."""
