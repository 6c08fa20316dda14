"""CLIP (Radford et al. 2021) with a ResNet: both towers, and each by itself.

Tokens, templates and stored text embeddings belong to ``unidet.text``.
"""
