"""The command line: one module for each command, and what several of them share.

What a command does belongs to the library; here it is only asked for and printed.
"""
