"""Gates on records: profiles in polars, suites in Great Expectations, results as a page."""
