"""Opens a data set of any format, for configs and the command line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unidet.data.coco import load_coco
from unidet.data.dataset import DetectionDataset
from unidet.data.proposals import read_proposals
from unidet.data.scenes import ensure_scenes
from unidet.data.subset import random_subset
from unidet.data.voc import load_voc
from unidet.errors import UserError, suggestion
from unidet.text.stored import read_embeddings

#: Keys of a source that say where its data are.
SOURCE_KEYS = ("annotations", "images", "root", "split")

_COMMON = (
    "format", "name", "class_names", "on_bad", "percent", "count", "subset_seed", "proposals",
    "embeddings", "frequencies",
)  # fmt: skip
_SCENES_KEYS = ("root", "scene_count", "size", "seed", "classes", "max_objects")


@dataclass(frozen=True)
class Format:
    """How data of one format are read.

    Attributes:
        reader: called with the keys that were given and with ``name``, ``class_names`` and
            ``on_bad`` where given.
        keys: that the format takes.
    """

    reader: Callable[..., DetectionDataset]
    keys: tuple[str, ...]


def load_dataset(spec: Mapping[str, Any]) -> DetectionDataset:
    """Reads the data set that a mapping describes.

    Keys of every format: ``format`` (default "coco"), ``name``, ``class_names``, ``on_bad``, and
    for a random part ``percent`` or ``count`` with ``subset_seed``, and ``proposals``, a file of
    :func:`unidet.data.proposals.read_proposals`, ``embeddings``, one of
    :func:`unidet.text.stored.read_embeddings`, and ``frequencies``, one of
    :func:`unidet.data.frequencies.read_frequencies`. Further keys:

    * coco, lvis: ``annotations`` (JSON file), ``images`` (folder). lvis: v0.5 or v1, scored by
      LVIS's rules.
    * voc: ``root`` and ``split``, or ``annotations`` = the list ``ROOT/ImageSets/Main/SPLIT.txt``;
      ``images`` where the folder is neither ``JPEGImages`` nor ``images``.
    * scenes: ``root`` (folder, made when it is not there; refused when it holds other scenes),
      ``scene_count``, ``size`` (h, w), ``seed``, ``classes``, ``max_objects``.

    Raises:
        UserError: unknown format or key, missing key, or the data cannot be read.
    """
    kind = spec.get("format", "coco")
    if kind not in FORMATS:
        from unidet.plugins import load_plugins

        load_plugins()
    if kind not in FORMATS:
        raise UserError(
            f"Invalid value for `format`. Expected one of {', '.join(FORMATS)}. "
            f"Received {kind!r}.{suggestion(str(kind), FORMATS)}"
        )
    allowed = (*_COMMON, *FORMATS[kind].keys)
    for key in spec:
        if key not in allowed:
            raise UserError(
                f"Unknown key `{key}` of a data set of format {kind}. Expected one of "
                f"{', '.join(allowed)}.{suggestion(str(key), allowed)}"
            )
    options = {k: spec[k] for k in ("name", "class_names", "on_bad") if spec.get(k) is not None}
    given = {k: spec[k] for k in FORMATS[kind].keys if spec.get(k) is not None}
    dataset = FORMATS[kind].reader(**given, **options)
    if spec.get("proposals"):
        dataset.proposals = read_proposals(spec["proposals"], dataset)
    if spec.get("embeddings"):
        dataset.embeddings = read_embeddings(spec["embeddings"], dataset.class_names)
    if spec.get("frequencies"):
        from unidet.data.frequencies import read_frequencies

        dataset.image_counts = read_frequencies(spec["frequencies"], dataset)
    if spec.get("percent") is None and spec.get("count") is None:
        return dataset
    return random_subset(
        dataset,
        percent=spec.get("percent"),
        count=spec.get("count"),
        seed=spec.get("subset_seed") or 0,
    )


def _coco(annotations: Any = None, images: Any = None, **options: Any) -> DetectionDataset:
    return load_coco(
        _need("coco", "annotations", annotations), _need("coco", "images", images), **options
    )


def _lvis(annotations: Any = None, images: Any = None, **options: Any) -> DetectionDataset:
    dataset = load_coco(
        _need("lvis", "annotations", annotations), _need("lvis", "images", images), **options
    )
    dataset.metric = "lvis"
    return dataset


def _voc(
    root: Any = None, split: Any = None, annotations: Any = None, images: Any = None, **options: Any
) -> DetectionDataset:
    if root:
        return load_voc(root, _need("voc", "split", split), images_dir=images or None, **options)
    path = Path(_need("voc", "annotations", annotations))
    if path.suffix != ".txt" or path.parent.name != "Main":
        raise UserError(
            "Invalid value for `annotations`. Expected ROOT/ImageSets/Main/SPLIT.txt for VOC. "
            f"Received {str(path)!r}."
        )
    return load_voc(path.parents[2], path.stem, images_dir=images or None, **options)


def _scenes(root: Any = None, scene_count: Any = None, **given: Any) -> DetectionDataset:
    folder = Path(_need("scenes", "root", root))
    options = {k: given.pop(k) for k in ("name", "class_names", "on_bad") if k in given}
    annotations = ensure_scenes(folder, int(scene_count or 64), **given)
    return load_coco(annotations, folder / "images", **options)


def _need(form: str, key: str, value: Any) -> Any:
    if not value:
        raise UserError(f"Missing key `{key}` of a data set of format {form}.")
    return value


#: Readers by name, those of plugins included.
FORMATS: dict[str, Format] = {
    "coco": Format(_coco, ("annotations", "images")),
    "lvis": Format(_lvis, ("annotations", "images")),
    "voc": Format(_voc, SOURCE_KEYS),
    "scenes": Format(_scenes, _SCENES_KEYS),
}
