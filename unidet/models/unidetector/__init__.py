"""UniDetector (Wang et al. 2023): the CLN of the first stage, the second stage, its calibration.

What an ordinary Faster R-CNN needs belongs to ``faster_rcnn``.
"""
