"""Reads, writes and maps checkpoints with neither framework installed.

Layers, lowest first: containers (files to nested dictionaries of arrays), writers (back to files),
trees (the flat state inside), families (published names to native names and back), and transfer
between PyTorch's and Jittor's containers.
"""

from __future__ import annotations

from .containers import ContainerInfo, detect_container, read_container
from .errors import CheckpointError, StateMismatchError, UnsafePickleError
from .families import FAMILIES, Family, Mapped, backbone_state, detect_family, family_named
from .report import TensorReport, TensorRow
from .transfer import Transfer, digest, jt2pt, pt2jt
from .trees import State, find_state
from .writers import container_for, write_jittor, write_safetensors, write_torch

__all__ = [
    "CheckpointError",
    "ContainerInfo",
    "FAMILIES",
    "Family",
    "Mapped",
    "State",
    "StateMismatchError",
    "TensorReport",
    "TensorRow",
    "Transfer",
    "UnsafePickleError",
    "backbone_state",
    "container_for",
    "detect_container",
    "detect_family",
    "digest",
    "family_named",
    "jt2pt",
    "find_state",
    "pt2jt",
    "read_container",
    "write_jittor",
    "write_safetensors",
    "write_torch",
]
