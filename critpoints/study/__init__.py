"""Studies: a specification, a store, a resumable run."""
