"""Moving to a critical point: training, refinement, escape."""
