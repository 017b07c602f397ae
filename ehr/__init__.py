"""Health records: events, tokens, batches, the model, predictions and scores."""
