"""Loading weights of any known origin into a model."""

from __future__ import annotations

import dataclasses
import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from unidet.backends import nn
from unidet.checkpoints.conventions import differences
from unidet.errors import UserError
from unidet.weights_convert import (
    State,
    TensorReport,
    backbone_state,
    detect_family,
    family_named,
)
from unidet.weights_convert.families import (
    detector_start,
    is_published_detector,
    read_state,
    refuse_clip,
    require_clip,
    weights_in,
)
from unidet.weights_convert.families.clip import DERIVED

#: State that other files lack and that a model can go without: it keeps or starts its own.
_OPTIONAL = ("num_batches_tracked", "loss_divisor")
#: What every detector with CLIP's attention in its head has.
_CLIP_HEAD = "head.attnpool.positional_embedding"
#: The family whose tensors go into backbones.
_CLASSIFIER = "torchvision_resnet"
#: Families whose files hold a visual tower.
_TOWERS = ("openai_clip", "regionclip", "regionclip_mmdet")
#: Vocabularies of one model differ by it.
_NUMBER = re.compile(r"_\d+$")
_KEPT = "the model's own vocabulary stays"


class ConventionWarning(UserWarning):
    """Weights were made for other conventions than the model's: names fit, numbers will not."""


def load_weights(
    model: Any,
    path: str | Path,
    *,
    family: str | None = None,
    strict: bool = True,
    reinitialise: bool = False,
) -> TensorReport:
    """Loads a checkpoint of unidet or of a known family into a model.

    Args:
        model: a model of either backend, with the weights that tensors without a match keep. Those
            of its ``kept_tensors``, a vocabulary that its user has given, stay whatever the file
            holds.
        path: ``.safetensors``, ``.pth``, ``.pt``, ``.pkl``, ...: a native checkpoint, a saved
            state of the same model, a published file, or a folder of Hugging Face.
        family: name of the published family; found from keys and shapes by default.
        strict: every tensor of the model and of the file has to find its partner. Otherwise what
            fits is loaded.
        reinitialise: tensors whose shape differs, as those of another number of classes do, keep
            the model's own fresh values and are reported as ``reinitialised``.

    Returns:
        What became of every tensor; ``report.summary()`` and ``report.table()`` say it in words.

    Raises:
        UserError: no such file, an unknown family, or tensors that do not fit; nothing was
            written to the model then.

    Warns:
        ConventionWarning: the model differs from the file's origin in conventions such as anchor
            rounding or the scale of the box deltas.
    """
    file = weights_in(path)
    if not file.is_file():
        raise UserError(f"Checkpoint not found: {file}")
    path = str(file)
    target = nn.state_arrays(model)
    state, info = read_state(file, target=target)
    shared = len(target.keys() & state.arrays.keys())
    refuse_clip(state.arrays, target, source=path)
    own = model.model_name
    start = None
    if _CLIP_HEAD in target:
        require_clip(state.arrays, source=path)
        start = detector_start(state.arrays)
    if start is not None and family in (None, *_TOWERS):
        content = _Content(f"{start[1].title}, into {own}", *start)
    elif family is None and 2 * shared > len(target) and not is_published_detector(state.arrays):
        # A file of the model's own names needs no family. Many libraries share the backbone's.
        content = _Content(f"{own}, its own names", state.arrays, TensorReport(""))
    else:
        content = _published(model, state, family, path)
    report = TensorReport(content.title, notes=[*map(str, info.notes), *content.inner.notes])
    report.rows += content.inner.with_status("dropped")
    kept = tuple(model.kept_tensors)
    fitting = _fit(report, target, content, reinitialise, kept)
    if strict:
        report.require(path)
    nn.load_arrays(model, fitting, strict=False)
    return report


@dataclasses.dataclass
class _Content:
    """What a file holds for a model.

    Attributes:
        title: In words.
        arrays: Tensors under native names.
        inner: What became of the file's names; of its notes all are passed on.
        place: Where a native name of ``inner`` belongs in this model.
    """

    title: str
    arrays: dict[str, np.ndarray]
    inner: TensorReport
    place: Callable[[str], str] = str

    @property
    def sources(self) -> dict[str, str]:
        """The file's name of each tensor that had another."""
        rows = self.inner.rows
        return {self.place(row.target): row.source for row in rows if row.target and row.source}


def _published(model: Any, content: State, family: str | None, path: str) -> _Content:
    state = content.arrays
    if family is not None:
        found = family_named(family)
    else:
        found = detect_family(state, source=path, extras=content.extras)
    from unidet.models.classifier import ResNetClassifier

    if found.name == _CLASSIFIER and not isinstance(model, ResNetClassifier):
        arrays, inner = backbone_state(state, source=path)
        place = _last_stage(model)
        arrays = {place(name): array for name, array in arrays.items()}
        title = f"{found.title}, into the backbone"
    else:
        # Whether tensors fit is judged against the model below, not against the origin.
        place = str
        mapped = found.to_native(state, strict=False, source=path, extras=content.extras)
        arrays, inner = dict(mapped.arrays), mapped.report
        for name in mapped.reinitialised:  # the file has them not, and the model has its own
            del arrays[name]
        title = f"{found.title}, into {model.model_name}"
        different = _other_conventions(model, mapped.description)
        if different:
            name = mapped.description["name"]
            text = (
                f"{path} was made for {name}. The model differs from it in {different}: outputs "
                f"will not be those of the origin. unidet.create_model({name!r}) makes a model "
                "that fits."
            )
            warnings.warn(text, ConventionWarning, stacklevel=3)
            inner.notes.append(text)
    for row in inner.with_status("unexpected"):
        # Names that the origin itself does not have stay what they are: unexpected.
        if row.source is not None:
            arrays.setdefault(row.source, state[row.source])
    return _Content(title, arrays, inner, place)


def _last_stage(model: Any) -> Callable[[str], str]:
    """Where a backbone's tensors belong: a detector on C4 has the last stage in its head."""
    if "head.res5.0.conv1.weight" not in nn.shapes(model):
        return str
    return lambda name: name.replace("backbone.layer4.", "head.res5.", 1)


def _fit(
    report: TensorReport,
    target: Mapping[str, np.ndarray],
    content: _Content,
    reinitialise: bool,
    kept: tuple[str, ...],
) -> dict[str, np.ndarray]:
    """The tensors that the model takes; every tensor of both sides gets a row."""
    fitting: dict[str, np.ndarray] = {}
    arrays, sources = content.arrays, content.sources
    vocabularies = {_NUMBER.sub("", name) for name in kept}
    for name, array in arrays.items():
        source = sources.get(name, name)
        if name in kept and name in target:
            report.add("kept", source, name, target[name].shape, target[name].dtype, _KEPT)
        elif name not in target:
            replaced = _NUMBER.sub("", name) in vocabularies
            dropped = replaced or name in DERIVED or name.endswith(_OPTIONAL)
            status = "dropped" if dropped else "unexpected"
            note = _KEPT if replaced else ""
            report.add(status, source, None, array.shape, array.dtype, note)
        elif target[name].size == array.size == 1 or target[name].shape == array.shape:
            # Jittor's files hold scalars with one dimension.
            fitting[name] = array.reshape(target[name].shape)
            status = "matched" if source == name else "renamed"
            report.add(status, source, name, array.shape, array.dtype)
        else:
            note = f"expected {target[name].shape}, received {array.shape}"
            status = "reinitialised" if reinitialise else "mismatched"
            report.add(status, source, name, array.shape, array.dtype, note)
    for name, own in target.items():
        if name not in arrays:
            if name in kept:
                report.add("kept", None, name, own.shape, own.dtype, _KEPT)
            elif name.endswith("num_batches_tracked"):
                fitting[name] = np.zeros(own.shape, own.dtype)
                report.add("reinitialised", None, name, own.shape, own.dtype, "starts at 0")
            elif name.endswith(_OPTIONAL):
                report.add("reinitialised", None, name, own.shape, own.dtype, "keeps its value")
            else:
                report.add("missing", None, name, own.shape, own.dtype)
    return fitting


def _other_conventions(model: Any, description: Mapping[str, Any]) -> str:
    """Arguments in which a model and a file's origin differ, as text; empty where none."""
    from unidet.models import model_spec

    spec = model_spec(description["name"])
    origin = {**spec.defaults, **description["arguments"]}
    names = model.settings.names()
    known = {key: getattr(model.settings, key) for key in origin if key in names}
    about = {**spec.constructor.config_class.about(), **model.settings.about()}
    return ", ".join(
        f"{key} ({mine}, there {theirs})" for key, mine, theirs in differences(known, origin, about)
    )
