"""The parity certificate: its contents and its file."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unidet.errors import UserError
from unidet.files.atomic import atomic_path
from unidet.files.numbers import is_id
from unidet.files.outputs import make_parent
from unidet.files.reading import read_json
from unidet.files.shown import shown

FORMAT = "unidet-parity"
FORMAT_VERSION = 1
SUFFIX = ".parity.json"


@dataclass(frozen=True)
class Thresholds:
    """Largest differences that pass.

    Attributes:
        logits: absolute, raw outputs; above a scale of 10 the same fraction of the scale over 10,
            since float32 cannot do better.
        boxes: pixels, of outputs and kept detections.
        shares: absolute, of output boxes given as shares of the image.
        scores: absolute, of kept detections.
        losses: relative.
        cosine: smallest cosine between the gradients of a parameter.
        gradient_norm: relative difference of the lengths of two gradients.
        layers: largest difference over the largest magnitude of a layer's answer.
    """

    logits: float = 1e-4
    boxes: float = 0.01
    shares: float = 1e-5
    scores: float = 1e-5
    losses: float = 1e-5
    cosine: float = 0.9999
    gradient_norm: float = 1e-3
    layers: float = 1e-4


@dataclass(frozen=True)
class WeightRecord:
    """One tensor of the weights: its SHA-256 on both sides, over little-endian C-order bytes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    reference: str
    candidate: str

    @property
    def ok(self) -> bool:
        """True when the bytes are the same."""
        return self.reference == self.candidate


@dataclass(frozen=True)
class TensorDifference:
    """A layer's answer or an output on both sides.

    Attributes:
        name: module name with ``#k`` from its second call on, or path of an output.
        shape: on the reference side.
        max_abs: largest absolute difference; infinite where shapes or NaNs disagree.
        mean_abs: mean absolute difference.
        scale: largest magnitude on the reference side.
        tolerance: limit of ``max_abs``.
        note: what is wrong besides numbers, such as another shape.
    """

    name: str
    shape: tuple[int, ...]
    max_abs: float
    mean_abs: float
    scale: float
    tolerance: float
    note: str = ""

    @property
    def ok(self) -> bool:
        """True within the tolerance."""
        return not self.note and self.max_abs <= self.tolerance

    @property
    def relative(self) -> float:
        """``max_abs`` over ``scale``."""
        return self.max_abs / self.scale if self.scale else self.max_abs


@dataclass(frozen=True)
class LossDifference:
    """One loss on both sides."""

    name: str
    reference: float
    candidate: float
    tolerance: float

    @property
    def relative(self) -> float:
        """Difference over the larger magnitude; infinite when either is not finite."""
        if not (math.isfinite(self.reference) and math.isfinite(self.candidate)):
            return math.inf
        larger = max(abs(self.reference), abs(self.candidate))
        return abs(self.reference - self.candidate) / larger if larger else 0.0

    @property
    def ok(self) -> bool:
        """True within the tolerance."""
        return self.relative <= self.tolerance


@dataclass(frozen=True)
class GradientDifference:
    """The gradient of one parameter on both sides.

    Attributes:
        name: of the parameter.
        cosine: between the two.
        norm: length on the reference side.
        norm_difference: relative difference of the lengths.
        negligible: beyond the thresholds, yet smaller than a millionth of the whole gradient, as
            the rounding noise of a gradient that is zero in theory is.
        ok: within the thresholds, or negligible.
    """

    name: str
    cosine: float
    norm: float
    norm_difference: float
    negligible: bool
    ok: bool


@dataclass(frozen=True)
class DetectionMatch:
    """Kept detections of one image, matched as sets.

    Attributes:
        image: index in the batch.
        reference: number on the reference side.
        candidate: number on the candidate side.
        matched: pairs of the same label and place.
        tied: left over on either side, excused: the score equals the lowest kept one.
        max_box: largest difference of a corner in a pair, in pixels.
        max_score: largest difference of scores in a pair.
        ok: nothing left over that is not excused, differences within the thresholds.
    """

    image: int
    reference: int
    candidate: int
    matched: int
    tied: int
    max_box: float
    max_score: float
    ok: bool


@dataclass
class Certificate:
    """Comparison of a model on two sides.

    Attributes:
        model: ``{"name", "arguments"}``, or None for models that carry no config.
        reference: backend of the first side.
        candidate: backend of the second side.
        versions: of unidet, Python, NumPy and the frameworks.
        inputs: shape, SHA-256 and origin of the images.
        thresholds: limits of the verdict.
        weights: every tensor.
        layers: answers of all layers in the order of the forward pass.
        outputs: raw outputs of the model.
        losses: training losses; empty without targets.
        gradients: of the sum of the losses, by parameter.
        detections: one entry for each image.
        notes: what cannot be seen from the numbers, such as a layer that ran on one side alone.
    """

    model: dict[str, Any] | None
    reference: str
    candidate: str
    versions: dict[str, str] = field(default_factory=dict)
    inputs: dict[str, Any] = field(default_factory=dict)
    thresholds: Thresholds = field(default_factory=Thresholds)
    weights: list[WeightRecord] = field(default_factory=list)
    layers: list[TensorDifference] = field(default_factory=list)
    outputs: list[TensorDifference] = field(default_factory=list)
    losses: list[LossDifference] = field(default_factory=list)
    gradients: list[GradientDifference] = field(default_factory=list)
    detections: list[DetectionMatch] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def first_departure(self) -> str | None:
        """Name of the first layer that differs by more than the threshold, or None."""
        return next((layer.name for layer in self.layers if not layer.ok), None)

    def failures(self) -> list[str]:
        """One sentence for each group that does not pass; empty for a PASS."""
        found = list(self.notes)
        groups = (
            ("weights", [w.name for w in self.weights if not w.ok], len(self.weights)),
            ("layers", [x.name for x in self.layers if not x.ok], len(self.layers)),
            ("outputs", [x.name for x in self.outputs if not x.ok], len(self.outputs)),
            ("losses", [x.name for x in self.losses if not x.ok], len(self.losses)),
            ("gradients", [x.name for x in self.gradients if not x.ok], len(self.gradients)),
            (
                "detections",
                [f"image {x.image}" for x in self.detections if not x.ok],
                len(self.detections),
            ),
        )
        for title, names, total in groups:
            if names:
                found.append(f"{title}: {len(names)} of {total} differ, the first is {names[0]}")
        if not self.layers or not self.outputs:
            found.append("nothing was compared")
        return found

    @property
    def passed(self) -> bool:
        """True when everything is within the thresholds."""
        return not self.failures()

    @property
    def verdict(self) -> str:
        """``PASS`` or ``FAIL``."""
        return "PASS" if self.passed else "FAIL"

    def to_dict(self) -> dict[str, Any]:
        """The content of the file, in JSON's types; infinity and NaN become text."""
        content = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "verdict": self.verdict,
            "failures": self.failures(),
            "first_departure": self.first_departure,
            **dataclasses.asdict(self),
        }
        for group in ("weights", "layers", "outputs", "losses"):
            for entry, item in zip(content[group], getattr(self, group)):
                entry["ok"] = item.ok
        return _plain(content)

    def save(self, path: str | Path) -> Path:
        """Writes the certificate, whole or not at all; ``.parity.json`` is its usual ending.

        Raises:
            UserError: the folder cannot be made.
            RunFailedError: the disk refused the write.
        """
        target = make_parent(path)
        with atomic_path(target, overwrite=True) as temporary:
            temporary.write_text(json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n")
        return target


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _number(value: Any) -> Any:
    return float(value) if isinstance(value, str) else value


def read_certificate(path: str | Path) -> Certificate:
    """Reads a certificate; its verdict is worked out anew from the numbers.

    Raises:
        UserError: no certificate, a damaged one, or one of a later format.
    """
    content = read_json(path, "Certificate")
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UserError(f"Invalid certificate {path}. Expected a file of `unidet parity`.")
    version = content.get("format_version")
    if not is_id(version) or version > FORMAT_VERSION:
        raise UserError(
            f"Invalid certificate {path}. Expected format version {FORMAT_VERSION} or below. "
            f"Received {shown(version)}."
        )
    try:
        certificate = _certificate(content)
        certificate.failures()
    # Values of wrong types fail wherever they are first used.
    except (TypeError, ValueError, KeyError, AttributeError, OverflowError) as error:
        raise UserError(
            f"Invalid certificate {path}. It is damaged or was changed "
            f"({type(error).__name__}: {shown(str(error))})."
        ) from error
    return certificate


def _certificate(content: dict[str, Any]) -> Certificate:
    kinds: dict[str, Any] = {
        "weights": WeightRecord,
        "layers": TensorDifference,
        "outputs": TensorDifference,
        "losses": LossDifference,
        "gradients": GradientDifference,
        "detections": DetectionMatch,
    }
    known = {f.name for f in dataclasses.fields(Certificate)}
    fields = {key: value for key, value in content.items() if key in known}
    fields["thresholds"] = Thresholds(**content["thresholds"])
    for group, kind in kinds.items():
        fields[group] = [_entry(kind, entry) for entry in content[group]]
    return Certificate(**fields)


def _entry(kind: Any, entry: dict[str, Any]) -> Any:
    """One entry of a group; numbers that JSON cannot hold were written as text."""
    texts = (
        {"name", "note", "dtype", "reference", "candidate"}
        if kind is WeightRecord
        else {
            "name",
            "note",
        }
    )
    values = {}
    for f in dataclasses.fields(kind):
        value = entry[f.name]
        if f.name == "shape":
            value = tuple(value)
        values[f.name] = value if f.name in texts else _number(value)
    return kind(**values)
