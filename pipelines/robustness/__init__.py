"""`anamnesis robustness`: what corrupted and attacked records cost a model, in one report."""
