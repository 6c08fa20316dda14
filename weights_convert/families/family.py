"""A family of published checkpoints: how to know one, and how to map it in both directions."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..errors import CheckpointError, StateMismatchError
from ..report import TensorReport
from .architecture import COUNTER, Shape, is_counter
from .mapping import Arrays, place_all, take_all
from .networks import Expected, Metadata, Network
from .plausibility import implausible_values
from .projections import join, name_wholes, part, split_shapes
from .rename import Table, rename, reverse
from .sidecar import Sidecar
from .styles import Style

_STEM = (64, 3, 7, 7)
#: detectron2 takes a pickle for one of its own when it names an author.
DETECTRON2_AUTHOR = {"__author__": "unidet"}
_PARTIAL = " A partial load has to be asked for (strict=False or --partial)."


@dataclass(frozen=True)
class Form:
    """One way of naming a family's tensors.

    Attributes:
        name: "" where there is only one.
        table: Prefixes in the file and in ours.
        signature: Names that only files of this form have.
        stem: Name of the first convolution, whose shape tells ResNets from look-alikes.
        absent: Names that relatives have and this form has not.
        network: Takes the place of the family's where the form differs in more than names.
        arguments: Conventions of the model that go with this form.
        remark: What an import must say.
        stem_shape: Shape of the first convolution.
        derived: Tensors of the file that follow from native shapes: an import leaves them out, an
            export writes them.
        split_qkv: Query, key and value projections of attention are three tensors, ours one.
    """

    name: str
    table: Table
    signature: tuple[str, ...]
    stem: str = "conv1.weight"
    absent: tuple[str, ...] = ()
    network: Network | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    remark: str = ""
    stem_shape: Shape = _STEM
    derived: Callable[[Mapping[str, Shape]], dict[str, np.ndarray]] | None = None
    split_qkv: bool = False

    def fits(self, shapes: Mapping[str, Shape]) -> bool:
        """Whether a file with these tensors has this form."""
        return (
            shapes.get(self.stem) == self.stem_shape
            and all(key in shapes for key in self.signature)
            and not any(key in shapes for key in self.absent)
        )


@dataclass
class Mapped:
    """A state in native names.

    Attributes:
        arrays: Tensors under native names.
        description: ``name`` of the model and ``arguments`` that differ from what it stands for.
        preset: Conventions of the peer, or None for a classifier.
        form: Name of the form that the file had.
        report: What became of every tensor.
        reinitialised: Native names that the file lacks and that got their initial value.
        float16_names: Native names of float16 tensors that were widened to float32.
    """

    arrays: dict[str, np.ndarray]
    description: dict[str, Any]
    preset: str | None
    form: str
    report: TensorReport
    reinitialised: tuple[str, ...] = field(default=())
    float16_names: tuple[str, ...] = field(default=())


@dataclass(frozen=True)
class Family:
    """A kind of published checkpoint.

    Attributes:
        name: What ``--from`` and ``--to`` call it.
        title: In words.
        network: What is demanded of its tensors.
        forms: Ways of naming its tensors; export takes the first unless told otherwise.
        preset: Ending of the native model's name: the peer's conventions, "" where the name says
            them already; None for a network that is no detector.
        frozen_norm: Batch norm is frozen in the published file, which has no step counts. A file
            that has them was trained with plain batch norm and its eps of 1e-5.
        counts_unused: Batch norm is frozen although the file has step counts, which are dropped
            and come back as zeros on export.
        norm_remark: What an import says of frozen norms.
        ignored: Patterns of names that old files carry and nobody needs.
        wrapper: Key under which the published file keeps the state.
        variant_of: Family with the same names and other conventions, which the names cannot tell.
        style: How a file tells that it is of this variant.
        widens: float16 becomes float32, exactly, and is float16 again in an export.
        backbone: mmdetection's name for the feature extractor.
        constants: What an export writes beside the wrapped state.
        slots: Names of the labels where these are COCO's category ids, a slot for each.
        metadata: Reads what the file says beside its tensors (its extras, what the tensors show,
            the file's name).
        sidecar: File that lies beside the weights.
    """

    name: str
    title: str
    network: Network
    forms: tuple[Form, ...]
    preset: str | None = None
    frozen_norm: bool = False
    counts_unused: bool = False
    norm_remark: str = ""
    ignored: tuple[str, ...] = ()
    wrapper: str | None = None
    variant_of: str | None = None
    style: Style | None = None
    widens: bool = False
    backbone: str = "ResNet"
    constants: Mapping[str, Any] = field(default_factory=dict)
    slots: tuple[str, ...] = ()
    metadata: Callable[[Mapping[str, Any], Expected, str], Metadata] | None = None
    sidecar: Sidecar | None = None

    def form_of(self, shapes: Mapping[str, Shape]) -> Form | None:
        """The form that a file's names and shapes show, or None."""
        return next((form for form in self.forms if form.fits(shapes)), None)

    def matches(self, shapes: Mapping[str, Shape]) -> bool:
        """Whether a file with these tensors belongs to the family."""
        return self.form_of(shapes) is not None

    def takes_model(self, name: str) -> bool:
        """Whether a native model of this name follows the family's conventions."""
        return self.form_for(name) is not None

    def form_for(self, model: str) -> Form | None:
        """The first form that a native model of this name can be written in, or None."""
        preset = f"_{self.preset}" if self.preset else ""
        for form in self.forms:
            if re.fullmatch(self._network(form).models + preset, model):
                return form
        return None

    def to_native(
        self,
        state: Arrays,
        *,
        strict: bool = True,
        source: str = "the file",
        extras: Mapping[str, Any] | None = None,
    ) -> Mapped:
        """Renames a file's tensors; no value changes (float16 may be widened).

        Args:
            state: Tensors under the file's names, wrappers and ``module.`` peeled off.
            strict: Refuse missing, unexpected and misshapen tensors.
            source: Name of the file, for messages.
            extras: What the file holds, and what lies, beside the tensors.

        Raises:
            StateMismatchError: another family, or (when strict) tensors that do not fit.
            CheckpointError: what the file says contradicts its tensors.
        """
        form = self.form_of({name: array.shape for name, array in state.items()})
        if form is None:
            raise StateMismatchError(
                f"Invalid checkpoint {source}. Expected {self.title}. Received a file without "
                f"{self._first_absent(state)}."
            )
        named = {name: rename(name, form.table) for name in state}
        shapes = {new: state[old].shape for old, new in named.items() if new}
        counted = any(
            new and is_counter(new) and not self._listed(old) for old, new in named.items()
        )
        counters = not self.counts_unused and (counted or not self.frozen_norm)
        expected = self._network(form).expect(shapes, counters=counters)
        metadata = self.metadata(extras or {}, expected, source) if self.metadata else Metadata()
        description = self._description(expected, form, counters, metadata)
        report = TensorReport(f"{self.title}, {description['name']}")
        wanted = split_shapes(expected.shapes) if form.split_qkv else expected.shapes
        arrays, filled = take_all(state, named, wanted, report, self._ignores, expected.may_lack)
        _name_missing(report, reverse(form.table))
        if form.split_qkv:
            arrays = join(arrays, expected.shapes, report)
        float16_names = _widen(arrays) if self.widens else ()
        for name, value in expected.own.items():
            arrays[name] = value
            note = "not in the published file"
            report.add("reinitialised", None, name, value.shape, value.dtype, note)
        if self.counts_unused and not counted:
            filled = tuple(_counters(expected.shapes))
        report.notes += metadata.remarks
        report.notes += self._remarks(form, counters, any(map(is_counter, filled)) and counters)
        if float16_names:
            report.notes.append(
                f"{len(float16_names)} float16 tensors were widened to float32 (exact)"
            )
        report.notes += implausible_values(arrays, self, form)
        if strict:
            report.require(source, hint=_PARTIAL)
        return Mapped(arrays, description, self.preset, form.name, report, filled, float16_names)

    def from_native(
        self,
        arrays: Arrays,
        *,
        form: str | None = None,
        without: tuple[str, ...] = (),
        float16_names: tuple[str, ...] = (),
        strict: bool = True,
        source: str = "the model",
    ) -> tuple[dict[str, np.ndarray], TensorReport]:
        """Renames native tensors to the published names; no value changes.

        Args:
            arrays: Tensors under native names.
            form: Name of the wanted form; the first by default.
            without: Native names to leave out where they hold 0 (the origin did not have them).
            float16_names: Native names to write in float16 where that is exact.
            strict: Refuse missing, unexpected and misshapen tensors.
            source: Name of the file, for messages.

        Raises:
            StateMismatchError: the tensors are not those of this family's model.
            CheckpointError: no such form.
        """
        chosen = self._form_named(form)
        table = reverse(chosen.table)
        shapes = {name: array.shape for name, array in arrays.items()}
        counters = any(is_counter(name) for name in shapes)
        expected = self._network(chosen).expect(shapes, counters=counters)
        report = TensorReport(f"{self.title}, from {expected.name}")
        for name in expected.own.keys() & arrays.keys():
            note = "not in the published file"
            report.add("dropped", name, None, arrays[name].shape, arrays[name].dtype, note)
        arrays = {name: value for name, value in arrays.items() if name not in expected.own}
        kept = [name for name in float16_names if name in arrays and not _narrow(arrays, name)]
        if kept:
            report.notes.append(f"{len(kept)} tensors stay float32: float16 cannot hold them")
        wanted = expected.shapes
        if chosen.split_qkv:
            arrays, wanted = part(arrays, expected.shapes)
        state = place_all(arrays, table, wanted, report, without)
        if chosen.split_qkv:
            name_wholes(report)
        if self.counts_unused and not counters:
            for name in _counters(expected.shapes):
                new = rename(name, table)
                if new and name not in without:
                    state[new] = np.zeros((), np.int64)
                    report.add("reinitialised", None, new, (), "int64", "not counted here")
        if strict:
            report.require(source)
        for name, value in (chosen.derived(shapes) if chosen.derived and report.ok else {}).items():
            state[name] = value
            note = "follows from the shapes"
            report.add("reinitialised", None, name, value.shape, value.dtype, note)
        return state, report

    def _network(self, form: Form) -> Network:
        return form.network or self.network

    def _description(
        self, expected: Expected, form: Form, counters: bool, metadata: Metadata
    ) -> dict[str, Any]:
        arguments = {**expected.arguments, **form.arguments, **metadata.arguments}
        if self.frozen_norm and counters:
            arguments.update(norm="batch", norm_eps=1e-5)
        name = metadata.name or expected.name
        name = f"{name}_{self.preset}" if self.preset else name
        return {"name": name, "arguments": arguments}

    def _remarks(self, form: Form, counters: bool, filled: bool) -> list[str]:
        remarks = []
        if filled:
            remarks.append("the file has no num_batches_tracked; they start at 0")
        if self.frozen_norm and not counters and self.norm_remark:
            remarks.append(self.norm_remark)
        if form.remark:
            remarks.append(form.remark)
        return remarks

    def _ignores(self, name: str) -> bool:
        return is_counter(name) or self._listed(name)

    def _listed(self, name: str) -> bool:
        return any(re.fullmatch(pattern, name) for pattern in self.ignored)

    def _form_named(self, name: str | None) -> Form:
        for form in self.forms:
            if name is None or form.name == name:
                return form
        known = ", ".join(form.name for form in self.forms)
        raise CheckpointError(
            f"Invalid form for {self.name}. Expected one of {known}. Received {name!r}."
        )

    def _first_absent(self, state: Arrays) -> str:
        def gaps(form: Form) -> int:
            return sum(name not in state for name in (*form.signature, form.stem))

        form = min(self.forms, key=gaps)
        for name in (*form.signature, form.stem):
            if name not in state:
                return name
        for name in form.absent:
            if name in state:
                return f"the traits of its family: {name} is another model's"
        shape, expected = state[form.stem].shape, form.stem_shape
        side = f"{expected[-1]}x{expected[-1]}"
        return f"a {side} stem ({form.stem} has shape {shape}, expected {expected})"


def _counters(shapes: Mapping[str, Shape]) -> list[str]:
    suffix = "running_var"
    return [name[: -len(suffix)] + COUNTER for name in shapes if name.endswith(suffix)]


def _name_missing(report: TensorReport, table: Table) -> None:
    """Adds to rows of missing tensors what the file would call them."""
    for i, row in enumerate(report.rows):
        theirs = rename(row.target or "", table)
        if row.status == "missing" and theirs != row.target:
            report.rows[i] = replace(row, note=f"{theirs} in the file")


def _widen(arrays: dict[str, np.ndarray]) -> tuple[str, ...]:
    """Makes float32 of float16, in place; returns the names."""
    float16_names = tuple(name for name, array in arrays.items() if array.dtype == np.float16)
    for name in float16_names:
        arrays[name] = arrays[name].astype(np.float32)
    return float16_names


def _narrow(arrays: dict[str, np.ndarray], name: str) -> bool:
    """Makes float16 of a float32 array, in place, if nothing is lost; whether it did."""
    array = arrays[name]
    with np.errstate(over="ignore"):
        half = array.astype(np.float16)
    if half.astype(np.float32).tobytes() != array.tobytes():
        return False
    arrays[name] = half
    return True
