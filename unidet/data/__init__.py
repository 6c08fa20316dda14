"""Data: readers, transforms, the loader, generated scenes and tools. NumPy and OpenCV only."""

from __future__ import annotations

from unidet.data.augmentations import AUGMENTATIONS, create_augmentation
from unidet.data.coco import load_coco
from unidet.data.dataset import Annotations, DetectionDataset, ImageRecord
from unidet.data.images import read_image, write_image
from unidet.data.loader import Loader
from unidet.data.preprocess import Preprocess, Sample
from unidet.data.scenes import generate_scenes
from unidet.data.sources import load_dataset
from unidet.data.transforms import FirstEpochs
from unidet.data.voc import load_voc

__all__ = [
    "AUGMENTATIONS",
    "Annotations",
    "DetectionDataset",
    "FirstEpochs",
    "ImageRecord",
    "Loader",
    "Preprocess",
    "Sample",
    "create_augmentation",
    "generate_scenes",
    "load_coco",
    "load_dataset",
    "load_voc",
    "read_image",
    "write_image",
]
