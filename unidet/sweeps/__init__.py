"""Sweeps: many versions of one run, each trained with one seed or with several, and compared."""
