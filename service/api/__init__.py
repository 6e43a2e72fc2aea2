"""HTTP: one file per resource, and what stands before all of them."""
