"""The report on a study: one HTML page that needs nothing else."""
