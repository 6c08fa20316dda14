"""A family of published checkpoints: how to know one, and how to map it in both directions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import CheckpointError, StateMismatchError
from ..report import TensorReport
from .architecture import (
    RetinaNetShape,
    Shape,
    infer_depth,
    infer_retinanet,
    is_counter,
    resnet_shapes,
    retinanet_shapes,
)
from .tables import RESNET, Table, rename, reverse

Arrays = Mapping[str, np.ndarray]
_STEM = (64, 3, 7, 7)
_PARTIAL = " A partial load has to be asked for (strict=False or --partial)."


@dataclass(frozen=True)
class Form:
    """One way of naming a family's tensors.

    Attributes:
        name: "" where there is only one.
        table: Prefixes in the file and in ours.
        signature: Names that only files of this form have.
        stem: Name of the first convolution, whose shape tells ResNets from look-alikes.
    """

    name: str
    table: Table
    signature: tuple[str, ...]
    stem: str = "conv1.weight"


@dataclass
class Mapped:
    """A state in native names.

    Attributes:
        arrays: Tensors under native names.
        description: ``name`` of the model and ``arguments`` that differ from what it stands for.
        dialect: Conventions of the peer, or None for a classifier.
        form: Name of the form that the file had.
        report: What became of every tensor.
        reinitialised: Native names that the file lacks and that got their initial value.
    """

    arrays: dict[str, np.ndarray]
    description: dict[str, Any]
    dialect: str | None
    form: str
    report: TensorReport
    reinitialised: tuple[str, ...] = field(default=())


@dataclass(frozen=True)
class Family:
    """A kind of published checkpoint.

    Attributes:
        name: What ``--from`` and ``--to`` call it.
        title: In words.
        forms: Ways of naming its tensors; export takes the first unless told otherwise.
        dialect: Dialect of the native RetinaNet; None for a classifier.
        extra_source: What P6 is computed from.
        head_norm: Towers have group norm.
        frozen_norm: Batch norm is frozen in the published file, which has no step counts. A file
            that has them was trained with plain batch norm and its eps of 1e-5.
        wrapper: Key under which the published file keeps the state.
    """

    name: str
    title: str
    forms: tuple[Form, ...]
    dialect: str | None = None
    extra_source: str = "c5"
    head_norm: bool = False
    frozen_norm: bool = False
    wrapper: str | None = None

    def form_of(self, shapes: Mapping[str, Shape]) -> Form | None:
        """The form that a file's names and shapes show, or None."""
        for form in self.forms:
            if shapes.get(form.stem) == _STEM and all(key in shapes for key in form.signature):
                return form
        return None

    def matches(self, shapes: Mapping[str, Shape]) -> bool:
        """Whether a file with these tensors belongs to the family."""
        return self.form_of(shapes) is not None

    def to_native(self, state: Arrays, *, strict: bool = True, source: str = "the file") -> Mapped:
        """Renames a file's tensors; no value changes.

        Args:
            state: Tensors under the file's names, wrappers and ``module.`` peeled off.
            strict: Refuse missing, unexpected and misshapen tensors.
            source: Name of the file, for messages.

        Raises:
            StateMismatchError: another family, or (when strict) tensors that do not fit.
        """
        form = self.form_of({name: array.shape for name, array in state.items()})
        if form is None:
            raise StateMismatchError(
                f"Invalid checkpoint {source}. Expected {self.title}. Received a file without "
                f"{self._first_absent(state)}."
            )
        named = {name: rename(name, form.table) for name in state}
        shapes = {new: state[old].shape for old, new in named.items() if new}
        counters = any(is_counter(name) for name in shapes) or not self.frozen_norm
        expected, description = self._expected(shapes, counters)
        report = TensorReport(f"{self.title}, {description['name']}")
        arrays, filled = _take(state, named, expected, report)
        if filled:
            report.notes.append("the file has no num_batches_tracked; they start at 0")
        if self.frozen_norm and not counters:
            report.notes.append(
                "batch norm runs frozen with eps 0, as the published COCO weights do"
            )
        if strict:
            report.require(source, hint=_PARTIAL)
        return Mapped(arrays, description, self.dialect, form.name, report, filled)

    def from_native(
        self,
        arrays: Arrays,
        *,
        form: str | None = None,
        without: tuple[str, ...] = (),
        strict: bool = True,
        source: str = "the model",
    ) -> tuple[dict[str, np.ndarray], TensorReport]:
        """Renames native tensors to the published names; no value changes.

        Args:
            arrays: Tensors under native names.
            form: Name of the wanted form; the first by default.
            without: Native names to leave out (step counts that the origin did not have).
            strict: Refuse missing, unexpected and misshapen tensors.
            source: Name of the file, for messages.

        Raises:
            StateMismatchError: the tensors are not those of this family's model.
            CheckpointError: no such form.
        """
        table = reverse(self._form_named(form).table)
        shapes = {name: array.shape for name, array in arrays.items()}
        counters = any(is_counter(name) for name in shapes)
        expected, description = self._expected(shapes, counters)
        report = TensorReport(f"{self.title}, from {description['name']}")
        state = {}
        for name, array in arrays.items():
            new = rename(name, table) if name in expected else None
            if name in without and not np.any(array):
                report.add("dropped", name, None, array.shape, array.dtype, "not in the origin")
            elif new is None:
                report.add("unexpected", name, None, array.shape, array.dtype)
            elif expected[name] != array.shape:
                note = f"expected {expected[name]}, received {array.shape}"
                report.add("mismatched", name, new, array.shape, array.dtype, note)
            else:
                state[new] = array
                kind = "matched" if new == name else "renamed"
                report.add(kind, name, new, array.shape, array.dtype)
        for name, shape in expected.items():
            if name not in arrays:
                report.add("missing", None, name, shape, "-")
        if strict:
            report.require(source)
        return state, report

    def _expected(
        self, shapes: Mapping[str, Shape], counters: bool
    ) -> tuple[dict[str, Shape], dict[str, Any]]:
        if self.dialect is None:
            depth = infer_depth(shapes)
            classes = shapes["fc.weight"][0] if shapes.get("fc.weight") else 1000
            description = {"name": f"resnet{depth}", "arguments": {"num_classes": classes}}
            return resnet_shapes(depth, counters=counters, num_classes=classes), description
        found = infer_retinanet(shapes)
        # What the family fixes is demanded, not read off the file.
        net = RetinaNetShape(
            found.depth,
            found.num_classes,
            found.anchors,
            found.fpn_channels,
            found.head_channels,
            found.head_depth,
            self.extra_source,
            self.head_norm,
        )
        name = f"retinanet_r{net.depth}_fpn_{self.dialect}"
        arguments: dict[str, Any] = {"num_classes": net.num_classes}
        if net.fpn_channels != 256 or net.head_channels != net.fpn_channels:
            arguments["fpn_channels"] = net.fpn_channels
            arguments["head_channels"] = net.head_channels
        if net.head_depth != 4:
            arguments["head_depth"] = net.head_depth
        if self.frozen_norm and counters:
            arguments.update(norm="batch", norm_eps=1e-5)
        description = {"name": name, "arguments": arguments}
        return retinanet_shapes(net, counters=counters), description

    def _form_named(self, name: str | None) -> Form:
        for form in self.forms:
            if name is None or form.name == name:
                return form
        known = ", ".join(form.name for form in self.forms)
        raise CheckpointError(
            f"Invalid form for {self.name}. Expected one of {known}. Received {name!r}."
        )

    def _first_absent(self, state: Arrays) -> str:
        form = self.forms[0]
        for name in (*form.signature, form.stem):
            if name not in state:
                return name
        shape = state[form.stem].shape
        return f"a 7x7 stem ({form.stem} has shape {shape}, expected {_STEM})"


def _take(
    state: Arrays,
    named: Mapping[str, str | None],
    expected: Mapping[str, Shape],
    report: TensorReport,
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    arrays: dict[str, np.ndarray] = {}
    for old, array in state.items():
        new = named[old]
        shape = array.shape
        if new is None or new not in expected:
            if is_counter(old):
                report.add("dropped", old, None, shape, array.dtype, "not used")
            else:
                report.add("unexpected", old, None, shape, array.dtype)
            continue
        if is_counter(old) and array.size == 1:
            array = array.reshape(())  # Jittor has no 0-d tensors
        if array.shape != expected[new]:
            note = f"expected {expected[new]}, received {shape}"
            report.add("mismatched", old, new, shape, array.dtype, note)
            continue
        arrays[new] = array
        report.add("matched" if new == old else "renamed", old, new, array.shape, array.dtype)
    filled = []
    misshapen = {row.target for row in report.with_status("mismatched")}
    for name, shape in expected.items():
        if name in arrays or name in misshapen:
            continue
        if is_counter(name):
            arrays[name] = np.zeros(shape, np.int64)
            filled.append(name)
            report.add("reinitialised", None, name, shape, "int64", "starts at 0")
        else:
            report.add("missing", None, name, shape, "-")
    return arrays, tuple(filled)


def backbone_state(
    state: Arrays, *, prefix: str = "backbone.", source: str = "the file"
) -> tuple[dict[str, np.ndarray], TensorReport]:
    """Weights that start a detector's backbone, from an ImageNet classifier.

    Args:
        state: A ResNet classifier in torchvision's layout, with or without ``fc``.
        prefix: Put before every name.
        source: Name of the file, for messages.

    Returns:
        Tensors under the detector's names, ``fc`` left out, and the report.

    Raises:
        StateMismatchError: it is no ResNet of this layout.
    """
    shapes = {name: array.shape for name, array in state.items()}
    expected = resnet_shapes(infer_depth(shapes), prefix=prefix)
    report = TensorReport(f"ResNet-{infer_depth(shapes)} backbone")
    body = {}
    for name, array in state.items():
        if name.startswith("fc."):
            report.add("dropped", name, None, array.shape, array.dtype, "classifier")
        else:
            body[name] = array
    known = {name for name, _ in RESNET}
    named = {
        name: prefix + name if any(name.startswith(part) for part in known) else None
        for name in body
    }
    arrays, _ = _take(body, named, expected, report)
    report.require(source)
    return arrays, report
