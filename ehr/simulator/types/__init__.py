"""A third mechanism: hidden types of patients, each with a chain of complaints of its own."""
