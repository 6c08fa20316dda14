"""What ``unidet doctor`` looks at: the installation, the frameworks, Jittor's compiler.

Printing the rows belongs to ``cli/doctor.py``.
"""
