"""What a container is, and what was noticed while it was read."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

#: Kinds of container, in words.
KINDS = {
    "torch_zip": "PyTorch zip archive",
    "torch_legacy": "PyTorch file from before 1.6",
    "torchscript": "TorchScript archive",
    "safetensors": "safetensors",
    "jittor": "Jittor pickle",
    "pickle": "plain pickle",
    "npz": "NumPy archive",
}

#: Largest number of values that a view may show beyond what its storage holds.
EXPANSION_LIMIT = 1 << 20


@dataclass
class ContainerInfo:
    """Facts about a checkpoint file.

    Attributes:
        kind: A key of :data:`KINDS`.
        path: The file.
        size: Its length in bytes.
        metadata: Text entries beside the tensors (safetensors metadata, ours in other containers).
        notes: One line for each thing that was changed or left out while reading.
    """

    kind: str
    path: Path
    size: int
    metadata: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def title(self) -> str:
        """The kind in words."""
        return KINDS[self.kind]

    def to_json(self) -> dict[str, Any]:
        """Plain values for a JSON document."""
        return {
            "kind": self.kind,
            "path": str(self.path),
            "size": self.size,
            "metadata": dict(self.metadata),
            "notes": list(self.notes),
        }
