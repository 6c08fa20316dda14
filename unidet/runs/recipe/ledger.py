"""What a work dir says of its steps: with which inputs each was done, and what it wrote."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from unidet.engine.run_folder import write_json
from unidet.errors import UserError
from unidet.files.outputs import make_parent
from unidet.files.reading import read_json

_BLOCK = 1 << 20


def checksum(path: Path) -> str | None:
    """SHA-256 of a file, or of the names and contents below a folder; None where nothing is."""
    digest = hashlib.sha256()
    if path.is_dir():
        for part in sorted(p for p in path.rglob("*") if p.is_file()):
            digest.update(f"{part.relative_to(path).as_posix()}\0".encode())
            _add(digest, part)
    elif path.is_file():
        _add(digest, path)
    else:
        return None
    return digest.hexdigest()


def _add(digest: Any, path: Path) -> None:
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)


def digest_of(settings: Any, files: Iterable[Path]) -> str:
    """One number for the settings of a step and the contents of the files that it reads."""
    text = json.dumps([settings, [checksum(path) for path in files]], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


class Ledger:
    """The file ``steps.json`` of a work dir.

    A step is done when its outputs are as they were recorded. It is entered as begun before it
    works, and those behind it are struck out, so that a kill at any point leaves nothing that
    looks done and is not.

    Args:
        root: the work dir.

    Raises:
        UserError: the file is there and cannot be read.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.path = root / "steps.json"
        self._entries: dict[str, dict[str, Any]] = self._read()

    def _read(self) -> dict[str, dict[str, Any]]:
        if not self.path.exists():
            return {}
        try:
            content = read_json(self.path)
        except UserError as error:
            raise UserError(
                f"Invalid record {self.path}. It cannot be read: {error}. Remove it and pass "
                "--overwrite to run all steps again."
            ) from None
        if not isinstance(content, dict) or not all(isinstance(e, dict) for e in content.values()):
            raise UserError(
                f"Invalid record {self.path}. Expected an object with an entry for each step. "
                "Remove it and pass --overwrite to run all steps again."
            )
        return content

    def state(self, step: str, inputs: str) -> str:
        """Why a step has to run, in words; empty where it is done.

        Args:
            step: its name.
            inputs: of :func:`digest_of`.
        """
        entry = self._entries.get(step)
        if not entry:
            return "not done yet"
        if entry.get("inputs") != inputs:
            return "its settings or inputs have changed"
        outputs = entry.get("outputs")
        if not isinstance(outputs, Mapping):
            return "interrupted"
        for name, recorded in outputs.items():
            found = checksum(self.root / name)
            if found != recorded:
                return f"{name} is {'missing' if found is None else 'damaged'}"
        return ""

    def known(self, step: str) -> bool:
        """Whether what a step leaves is the recipe's own, done, interrupted or struck out."""
        return step in self._entries

    def begin(self, step: str, inputs: str, behind: Sequence[str]) -> None:
        """Enters a step as begun and strikes out those behind it."""
        self._entries |= {name: {} for name in behind if name in self._entries}
        self._entries[step] = {"inputs": inputs}
        make_parent(self.path)
        write_json(self.path, self._entries)

    def end(self, step: str, outputs: Iterable[Path], seconds: float) -> None:
        """Enters what a step has written."""
        told = {path.relative_to(self.root).as_posix(): checksum(path) for path in outputs}
        entry = self._entries[step]
        self._entries[step] = {**entry, "outputs": told, "seconds": round(seconds, 1)}
        write_json(self.path, self._entries)
