"""Parts of networks that several detectors share: ResNet, FPN, attention.

Heads belong to the folder of their model; what works on boxes belongs to ``boxes``.
"""
