"""Record of finished steps: the inputs of each, and the files that it wrote."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unidet.engine.run_folder import write_json
from unidet.errors import UserError
from unidet.files.outputs import make_parent
from unidet.files.reading import read_json

if TYPE_CHECKING:
    from unidet.runs.steps import Step

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


def read_content(path: Path, fits: Callable[[Any], bool], expected: str, advice: str = "") -> Any:
    """Content of a record file.

    Args:
        path: the file.
        fits: tells a record from other JSON.
        expected, advice: what it should be and what to do otherwise, for the message.

    Raises:
        UserError: it cannot be read, or is something else.
    """
    try:
        content = read_json(path)
    except UserError as error:
        raise UserError(f"Invalid record {path}. It cannot be read: {error}.{advice}") from None
    if not fits(content):
        raise UserError(f"Invalid record {path}. Expected {expected}.{advice}")
    return content


class Record:
    """A JSON file in the work dir with an entry for each step.

    A step is done when its outputs are as they were recorded. It is entered as begun before it
    works, and those behind it are struck out, so that a kill at any point leaves nothing that
    looks done and is not.

    Args:
        path: the file; its folder is the work dir.
        content: of the file.
        entries: the part of it with the entries, by name of the step.
    """

    def __init__(self, path: Path, content: dict[str, Any], entries: dict[str, Any]) -> None:
        self.path, self.root = path, path.parent
        self.content, self.entries = content, entries

    def state(self, step: Step) -> str:
        """Why a step has to run, in words; empty where it is done."""
        entry = self.entries.get(step.name)
        if not entry:
            return "not done yet"
        if entry.get("inputs") != digest_of(step.settings, step.files):
            return "its settings or inputs have changed"
        outputs = entry.get("outputs")
        if not isinstance(outputs, Mapping):
            return "interrupted"
        for name, recorded in outputs.items():
            found = checksum(self.root / name)
            if found != recorded:
                return f"{name} is {'missing' if found is None else 'damaged'}"
        return ""

    def begin(self, step: Step, behind: Sequence[str]) -> None:
        """Enters a step as begun and strikes out those behind it."""
        self.entries |= {name: {} for name in behind if name in self.entries}
        self.entries[step.name] = {"inputs": digest_of(step.settings, step.files)}
        self.write()

    def end(self, step: Step, failure: str, seconds: float) -> None:
        """Enters what a step has written; one that says why it failed stays interrupted."""
        if not failure:
            told = {p.relative_to(self.root).as_posix(): checksum(p) for p in step.outputs}
            self.entries[step.name] |= {"outputs": told, "seconds": round(seconds, 1)}
            self.write()

    def write(self) -> None:
        """Writes the file, whole or not at all."""
        write_json(make_parent(self.path), self.content)


def read_record(root: Path) -> Record:
    """The record of a work dir; empty where there is none yet.

    Raises:
        UserError: the file is there and cannot be read.
    """
    path = root / "steps.json"
    content = read_content(
        path,
        lambda found: isinstance(found, dict) and all(isinstance(e, dict) for e in found.values()),
        "an object with an entry for each step",
        " Remove it and pass --overwrite to run all steps again.",
    ) if path.exists() else {}  # fmt: skip
    return Record(path, content, content)
