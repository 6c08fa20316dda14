"""Checkpoints and models: our own files, published ones, loading, inspection.

Containers and names of published formats belong to ``weights_convert``, which needs no model.
"""
