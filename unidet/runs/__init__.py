"""Several runs in a row: sweeps over parameters, recipes of stages, the demo.

One run by itself belongs to ``engine``.
"""
