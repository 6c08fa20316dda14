"""Files that lie beside the weights and say what the tensors do not show."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unidet.errors import UserError
from unidet.files.reading import exists, is_file, read_json

from ..errors import CheckpointError

#: How Hugging Face calls the weights in a model's folder, the first that exists.
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
#: Lists the parts of weights that were cut into several files.
_INDEX = ".index.json"
#: A config has a few kilobytes.
_LARGEST = 1 << 24

Config = dict[str, Any]


@dataclass(frozen=True)
class Sidecar:
    """A JSON file that belongs to a family's weights.

    Attributes:
        name: Of the file, and of its content in ``State.extras``.
        write: Its content for a native model (name and arguments), class names, a form and the
            content that came with the origin; and remarks on what it cannot say.
        tells: Arguments that it tells a reader.
    """

    name: str
    write: Callable[
        [Mapping[str, Any], Sequence[str], str, Mapping[str, Any]], tuple[Config, list[str]]
    ]
    tells: frozenset[str]

    def read(self, weights: Path) -> Config | None:
        """Its content beside ``weights``, or None where there is no such file.

        Raises:
            CheckpointError: it is damaged.
        """
        path = weights.parent / self.name
        if not is_file(path):
            return None
        if path.stat().st_size > _LARGEST:
            raise CheckpointError(f"Invalid {path}. Expected a config. It is too large.")
        try:
            content = read_json(path, "Config")
        except UserError as error:
            raise CheckpointError(str(error)) from None
        if not isinstance(content, dict):
            raise CheckpointError(
                f"Invalid {path}. Expected a JSON object. Received {type(content).__name__}."
            )
        return content


def weights_in(path: str | Path) -> Path:
    """The weights in a model's folder; a path that is no folder stays what it is.

    Raises:
        CheckpointError: the weights are cut into several files.
    """
    folder = Path(path)
    if not exists(folder) or not folder.is_dir():
        return folder
    for name in WEIGHTS:
        if (folder / name).is_file():
            return folder / name
        if (folder / f"{name}{_INDEX}").is_file():
            raise CheckpointError(
                f"Invalid checkpoint {folder}. Expected one file {name}. Received weights in "
                f"several, listed in {name}{_INDEX}: save them in one (max_shard_size)."
            )
    return folder
