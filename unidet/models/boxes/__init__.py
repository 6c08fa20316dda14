"""Boxes and anchors on the host: geometry, coders, matching, sampling, scores, NumPy throughout.

The targets and the post-processing of one model belong to the folder of that model.
"""
