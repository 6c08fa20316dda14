"""RetinaNet (Lin et al. 2017): model, config, presets, head, targets, post-processing.

What Faster R-CNN or DETR use, too, belongs to ``layers`` or ``boxes``.
"""
