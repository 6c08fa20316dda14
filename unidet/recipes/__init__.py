"""Recipes: runs that build on one another, as one command that can be interrupted anywhere."""
