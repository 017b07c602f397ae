"""`anamnesis serve`: a release behind HTTP and gRPC, beside the record."""
