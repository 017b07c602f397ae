"""A cohort with known true risk: a semi-Markov graph of diseases seen through visits."""
