"""Reading files that somebody else wrote: text, JSON, numbers, and how values are shown in errors.

What a format means belongs to its own package; here is what holds for every file.
"""
