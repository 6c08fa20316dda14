"""Faster R-CNN and Fast R-CNN: models, config, presets, RPN, box heads, targets, losses.

The parts that read class names as text belong to ``unidetector``.
"""
