"""The transforms of the package albumentations as one augmentation."""

from __future__ import annotations

import copy
import inspect
import os
import random
import threading
import warnings
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from unidet.data.transforms import clip_targets
from unidet.errors import UserError, suggestion
from unidet.structures import Targets

#: Those that hold other transforms.
GROUPS = ("Compose", "OneOf", "RandomOrder", "Sequential", "SomeOf")


class Albumentations:
    """Applies transforms of albumentations one after the other.

    Their random numbers come from one number of the loader's generator, so a run repeats exactly.
    Labels and marks stay with their boxes, which are clipped to the picture.

    Args:
        transforms: each a mapping with ``name``, such as "Perspective", and its arguments; the
            groups Compose, OneOf, RandomOrder, Sequential and SomeOf hold ``transforms`` of their
            own.
        min_area: boxes left with fewer square pixels are dropped.
        min_visibility: so are those left with a smaller share of their area.

    Raises:
        UserError: the package is missing, or a transform or argument does not exist or fit.
    """

    def __init__(
        self,
        transforms: Sequence[Mapping[str, Any]],
        min_area: float = 0.0,
        min_visibility: float = 0.0,
    ) -> None:
        if not min_area >= 0:
            raise ValueError(
                f"Invalid value for `min_area`. Expected 0 or more. Received {min_area!r}."
            )
        if not 0 <= min_visibility <= 1:
            raise ValueError(
                f"Invalid value for `min_visibility`. Expected 0 to 1. Received {min_visibility!r}."
            )
        library = _library()
        made = _build_all(library, transforms, "transforms")
        boxes = library.BboxParams(
            format="pascal_voc",
            label_fields=["index"],
            min_area=min_area,
            min_visibility=min_visibility,
            clip=True,
            filter_invalid_bboxes=True,
        )
        with warnings.catch_warnings():
            # It says so where no transform moves boxes, which is no mistake.
            warnings.simplefilter("ignore", UserWarning)
            self._pattern = library.Compose(made, bbox_params=boxes)
        self._of_thread = threading.local()

    def __call__(
        self, image: np.ndarray, targets: Targets, rng: np.random.Generator
    ) -> tuple[np.ndarray, Targets]:
        seed = int(rng.integers(2**63))
        composed = self._composed()
        # One generator for all: seeded one by one, transforms would all draw the same numbers.
        composed.set_random_state(np.random.default_rng(seed), random.Random(seed))
        h, w = image.shape[:2]
        try:
            found = composed(image=image, bboxes=targets.boxes_xyxy, index=np.arange(len(targets)))
        except Exception as error:
            raise UserError(
                f"Invalid transforms of albumentations. Expected some that fit a picture of "
                f"{h} x {w} pixels. Received: {_one_line(error)}."
            ) from error
        changed = found["image"]
        if changed.dtype != np.uint8 or changed.ndim != 3 or changed.shape[2] != 3:
            raise UserError(
                "Invalid transforms of albumentations. Expected some that keep a picture uint8 of "
                f"shape (h, w, 3). Received {changed.dtype} of shape {changed.shape}."
            )
        kept = targets[np.asarray(found["index"], np.int64)]
        corners = np.asarray(found["bboxes"], np.float32).reshape(-1, 4)
        moved = Targets(corners, kept.labels, kept.crowd, kept.ignore)
        return changed, clip_targets(moved, (changed.shape[0], changed.shape[1]))

    def _composed(self) -> Any:
        """The transforms of this thread: each keeps what it has drawn last in itself."""
        if not hasattr(self._of_thread, "composed"):
            self._of_thread.composed = copy.deepcopy(self._pattern)
        return self._of_thread.composed


def _library() -> ModuleType:
    # Importing it would otherwise ask the network for a newer version.
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    try:
        import albumentations
    except ImportError as error:
        raise UserError(
            "The package 'albumentations' is not installed. Install it: pip install "
            "'albumentations>=2.0.8'."
        ) from error
    module: ModuleType = albumentations
    return module


def _build_all(library: ModuleType, entries: Any, key: str) -> list[Any]:
    if isinstance(entries, (str, Mapping)) or not isinstance(entries, Sequence) or not entries:
        raise UserError(
            f"Invalid value for `{key}`. Expected a list of transforms such as "
            f"{{name: HorizontalFlip, p: 0.5}}. Received {entries!r}."
        )
    return [_build(library, entry, f"{key}.{i}") for i, entry in enumerate(entries)]


def _build(library: ModuleType, entry: Any, key: str) -> Any:
    if not isinstance(entry, Mapping) or not isinstance(entry.get("name"), str):
        raise UserError(
            f"Invalid value for `{key}`. Expected a mapping with the name of a transform. "
            f"Received {entry!r}."
        )
    arguments = dict(entry)
    name = arguments.pop("name")
    kinds = {
        other: kind
        for other, kind in vars(library).items()
        if other in GROUPS or (inspect.isclass(kind) and _is_transform(library, kind))
    }
    if name not in kinds:
        raise UserError(
            f"Invalid value for `{key}.name`. Expected a transform of albumentations that moves "
            f"boxes or leaves them where they are. Received {name!r}.{suggestion(name, kinds)}"
        )
    known = list(inspect.signature(kinds[name]).parameters)
    for argument in arguments:
        if argument not in known:
            raise UserError(
                f"Invalid argument for `{key}`. Expected {', '.join(known) or 'none'} for {name}. "
                f"Received {argument!r}.{suggestion(str(argument), known)}"
            )
    if name in GROUPS:
        inner = arguments.get("transforms", ())
        arguments["transforms"] = _build_all(library, inner, f"{key}.transforms")
    try:
        made = kinds[name](**arguments)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"Invalid arguments for `{key}`. Expected those of albumentations' {name}. "
            f"Received: {_one_line(error)}."
        ) from error
    needs = set(getattr(made, "targets_as_params", ())) - {"image", "bboxes"}
    if needs:
        raise UserError(
            f"Invalid value for `{key}.name`. Expected a transform that needs nothing but a "
            f"picture and its boxes. Received {name}, which asks for {', '.join(sorted(needs))}."
        )
    return made


def _is_transform(library: ModuleType, kind: type) -> bool:
    if kind.__module__.startswith("albumentations.core"):
        return False  # the base classes
    if issubclass(kind, library.ImageOnlyTransform):
        return True
    return issubclass(kind, library.BasicTransform) and "BBOXES" in str(
        getattr(kind, "_targets", "")
    )


def _one_line(error: Exception) -> str:
    """A message of pydantic or NumPy without its line breaks and links."""
    lines = [line.strip() for line in str(error).splitlines()]
    kept = [line for line in lines if line and not line.startswith("For further information")]
    return " ".join(kept).rstrip(".") or type(error).__name__
