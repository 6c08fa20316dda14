"""Several processes, and parts of one batch: ranks, their start, and shared counts.

The collectives of a framework belong to its own folder.
"""
