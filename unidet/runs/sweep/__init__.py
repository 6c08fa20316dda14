"""Sweeps: one run for each combination of parameters.

Stages that build on each other belong to ``recipe``.
"""
