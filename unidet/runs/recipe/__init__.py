"""Recipes: stages of training whose results feed the next stage.

Runs that differ in parameters only belong to ``sweep``.
"""
