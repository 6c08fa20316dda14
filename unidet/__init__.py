"""Object detection written once, run natively on PyTorch and Jittor."""

__version__ = "0.1.0"
