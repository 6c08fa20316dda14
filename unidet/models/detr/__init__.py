"""DETR (Carion et al. 2020): model, config, transformer, matcher, criterion.

Attention itself is in ``layers``, for CLIP uses it as well.
"""
