"""Models as standard ONNX files: photo in, detections out.

Importing the package loads no framework; writing a file needs PyTorch and the extra ``export``,
running one onnxruntime alone.
"""

from unidet.export.detector import OnnxDetector
from unidet.export.write import OPSETS, export_onnx

__all__ = ["OPSETS", "OnnxDetector", "export_onnx"]
