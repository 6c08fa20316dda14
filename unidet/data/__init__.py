"""Data: readers, transforms, the loader, generated scenes and tools. NumPy and OpenCV only."""

from __future__ import annotations

from unidet.data.coco import load_coco
from unidet.data.dataset import Annotations, DetectionDataset, ImageRecord
from unidet.data.images import read_image, write_image
from unidet.data.loader import Loader
from unidet.data.preprocess import Preprocess, Sample
from unidet.data.transforms import AUGMENTATIONS, create_augmentation

__all__ = [
    "AUGMENTATIONS",
    "Annotations",
    "DetectionDataset",
    "ImageRecord",
    "Loader",
    "Preprocess",
    "Sample",
    "create_augmentation",
    "load_coco",
    "read_image",
    "write_image",
]
