"""What a checkpoint file holds, told without loading a model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from unidet.checkpoints.conventions import in_words
from unidet.checkpoints.native import parse_checkpoint
from unidet.errors import UserError
from unidet.files.reading import parse_json
from unidet.files.shown import cut, printable, shown
from unidet.weights_convert import (
    FAMILIES,
    CheckpointError,
    ContainerInfo,
    Family,
    State,
    TensorReport,
    detect_family,
)
from unidet.weights_convert.families import (
    Mapped,
    looks_like,
    read_state,
    weights_in,
    with_style,
)
from unidet.weights_convert.families.labels import known_names
from unidet.weights_convert.report import shortened

_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
#: Begin of the names of text vectors: ``(D, C + 1)``, the background last.
_TEXT = "head.text_embeddings"
#: Names of classes that are shown.
_SHOWN = 5


@dataclass
class Inspection:
    """Facts about a checkpoint.

    Attributes:
        container: The file and its container.
        content: What it is, in words.
        family: Name of its family, or None.
        model: Name of the native model it fits, or None.
        wrapper: Keys that lead to the weights.
        prefix: What every name starts with.
        extras: Names of entries beside the weights.
        tensors: Name, shape and dtype of each tensor.
        values: Number of values in all tensors.
        parameters: Values without batch-norm statistics.
        dtypes: Number of tensors by dtype.
        conventions: What its numbers depend on and names do not show, by topic.
        vocabulary: Classes in words, "" where the file does not tell.
        report: What an import would do with every tensor; None outside the families.
        problem: Why an import would fail, or "".
    """

    container: ContainerInfo
    content: str
    family: str | None
    model: str | None
    wrapper: tuple[str, ...]
    prefix: str
    extras: tuple[str, ...]
    tensors: list[tuple[str, tuple[int, ...], str]] = field(repr=False)
    values: int
    parameters: int
    dtypes: dict[str, int]
    report: TensorReport | None = field(repr=False)
    problem: str = ""
    conventions: dict[str, str] = field(default_factory=dict)
    vocabulary: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain values for a JSON document."""
        return {
            "container": self.container.to_json(),
            "content": self.content,
            "family": self.family,
            "model": self.model,
            "wrapper": list(self.wrapper),
            "prefix": self.prefix,
            "extras": list(self.extras),
            "values": self.values,
            "parameters": self.parameters,
            "dtypes": self.dtypes,
            "problem": self.problem,
            "conventions": self.conventions,
            "vocabulary": self.vocabulary,
            "tensors": [
                {"name": name, "shape": list(shape), "dtype": dtype}
                for name, shape, dtype in self.tensors
            ],
            "report": None if self.report is None else self.report.to_json(),
        }

    def text(self, *, table: bool = False) -> str:
        """A few aligned lines, and every tensor on request."""
        dtypes = ", ".join(f"{count} {name}" for name, count in self.dtypes.items())
        rows = [
            ("file", f"{self.container.path} ({self.container.size:,} bytes)"),
            ("container", self.container.title),
            ("content", self.content),
            ("family", self.family or "none"),
            ("model", self.model or "unknown"),
            ("tensors", f"{len(self.tensors)} ({dtypes})"),
            ("parameters", f"{self.parameters:,} ({self.values:,} with batch-norm statistics)"),
        ]
        if self.wrapper or self.prefix:
            rows.append(("found under", ".".join((*self.wrapper, self.prefix)).rstrip(".")))
        if self.extras:
            rows.append(("beside them", shortened(list(self.extras))))
        if self.vocabulary:
            rows.append(("vocabulary", self.vocabulary))
        rows += list(self.conventions.items())
        rows += [("note", note) for note in self.container.notes]
        if self.report is not None and not table:  # the table has them at its end
            rows += [("note", note) for note in self.report.notes]
        if self.problem:
            rows.append(("problem", self.problem))
        lines = [f"{title:<12}{printable(value)}" for title, value in rows]
        if table and self.report is not None:
            lines.append(self.report.table())
        elif table:
            width = max(len(name) for name, _, _ in self.tensors)
            for name, shape, dtype in self.tensors:
                sides = "x".join(map(str, shape)) or "scalar"
                lines.append(f"{printable(name):<{width}}  {sides:<18}{dtype}")
        return "\n".join(lines)


def inspect_checkpoint(
    path: str | Path, *, rescue: bool = False, wanted: str | None = None
) -> Inspection:
    """Reads a checkpoint of any supported container and says what it is.

    Args:
        path: The file, or the folder of a model of Hugging Face.
        rescue: Read pickles of whole objects for their tensors; nothing of theirs runs.
        wanted: Which of several states to take: its keys joined with dots, or its prefix.

    Raises:
        UserError: a damaged or foreign file, or one without tensors.
    """
    path = weights_in(path)
    state, info = read_state(path, rescue=rescue, state=wanted)
    found = Inspection(
        container=info,
        content=looks_like(state.arrays),
        family=None,
        model=None,
        wrapper=state.wrapper,
        prefix=state.prefix,
        extras=tuple(key if isinstance(key, str) else shown(key) for key in state.extras),
        tensors=[(name, array.shape, array.dtype.name) for name, array in state.arrays.items()],
        values=sum(array.size for array in state.arrays.values()),
        parameters=sum(
            array.size
            for name, array in state.arrays.items()
            if name.rpartition(".")[2] not in _STATISTICS
        ),
        dtypes=dict(Counter(array.dtype.name for array in state.arrays.values())),
        report=None,
    )
    if "unidet" in info.metadata:
        _describe_native(found, info, state.arrays)
    else:
        _describe_published(found, state, str(path))
    return found


def _describe_native(
    found: Inspection, info: ContainerInfo, arrays: Mapping[str, np.ndarray]
) -> None:
    try:
        metadata = parse_json(info.metadata["unidet"], info.path, "Metadata of a checkpoint")
        checkpoint = parse_checkpoint(dict(arrays), metadata, source=info.path)
        found.model = checkpoint.model["name"]
        found.conventions = _conventions(checkpoint.model)
        found.content = f"a checkpoint of unidet, format {metadata['format_version']}"
        found.vocabulary = _vocabulary(arrays, checkpoint.class_names)
    except (UserError, AttributeError):
        found.content = "a file of unidet that is no checkpoint (training state, or damaged)"


def _describe_published(found: Inspection, state: State, source: str) -> None:
    try:
        family, remark = with_style(
            detect_family(state.arrays, source=source), FAMILIES, state.extras
        )
    except CheckpointError:
        return
    found.family = family.name
    try:
        mapped = family.to_native(state.arrays, strict=False, source=source, extras=state.extras)
        found.model, found.report = mapped.description["name"], mapped.report
        found.conventions = _conventions(mapped.description)
        found.vocabulary = _vocabulary(mapped.arrays, _published_names(family, mapped, state))
        mapped.report.notes[:0] = [remark] if remark else []
        mapped.report.require(source)
    except CheckpointError as error:
        found.problem = str(error)


def _published_names(family: Family, mapped: Mapped, state: State) -> Sequence[str]:
    arguments = mapped.description.get("arguments", {})
    # Of several vocabularies the first is detected.
    count = (arguments.get("vocabulary_sizes") or (arguments.get("num_classes", 0),))[0]
    if mapped.preset is None or not count:
        return ()
    slot = arguments.get("background_slot")
    return known_names(family.slots, count, state.extras, background_slot=slot)[0]


def _vocabulary(arrays: Mapping[str, np.ndarray], class_names: Sequence[str]) -> str:
    """Number and first names of the classes, and of text vectors their length.

    Args:
        arrays: tensors under native names.
        class_names: of the labels, where known.
    """
    first = ", ".join(printable(cut(name, 60)) for name in class_names[:_SHOWN])
    first += ", ..." * (len(class_names) > _SHOWN)
    texts = [array for name, array in sorted(arrays.items()) if name.startswith(_TEXT)]
    if not texts:
        count = len(class_names)
        return f"{count} class{'es' * (count != 1)}: {first}" if count else ""
    sizes = " + ".join(str(array.shape[1] - 1) for array in texts)
    words = f"{sizes} classes, text vectors of {texts[0].shape[0]} numbers"
    if not any(array.any() for array in texts):
        words += ", all zero (not given yet)"
    if len(texts) > 1:
        words += ", detects the first"
    return f"{words}: {first}" if class_names else words


def _conventions(description: Mapping[str, Any]) -> dict[str, str]:
    """In words; empty for a classifier, and for a model that this version does not know."""
    from unidet.checkpoints.published import full_arguments

    if description["name"].startswith("resnet"):
        return {}
    try:
        return in_words(full_arguments(description))
    except (UserError, ValueError, TypeError, KeyError):
        return {}
