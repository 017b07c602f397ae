"""EHR-C: records corrupted in the dull ways of hospitals, nested in severity, and what that costs a model."""
