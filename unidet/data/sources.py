"""One entry to all readers, for configs and the command line."""

from __future__ import annotations

from collections.abc import Mapping
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

FORMATS = ("coco", "lvis", "voc", "scenes")

_COMMON = (
    "format", "name", "class_names", "on_bad", "percent", "count", "subset_seed", "proposals",
    "embeddings", "frequencies",
)  # fmt: skip
_KEYS = {
    "coco": ("annotations", "images"),
    "lvis": ("annotations", "images"),
    "voc": ("root", "split", "annotations", "images"),
    "scenes": ("root", "scene_count", "size", "seed", "classes", "max_objects"),
}


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
        raise UserError(
            f"Invalid value for `format`. Expected one of {', '.join(FORMATS)}. "
            f"Received {kind!r}.{suggestion(str(kind), FORMATS)}"
        )
    allowed = (*_COMMON, *_KEYS[kind])
    for key in spec:
        if key not in allowed:
            raise UserError(
                f"Unknown key `{key}` of a data set of format {kind}. Expected one of "
                f"{', '.join(allowed)}.{suggestion(str(key), allowed)}"
            )
    options = {k: spec[k] for k in ("name", "class_names", "on_bad") if spec.get(k) is not None}
    if kind == "voc":
        dataset = _voc(spec, options)
    elif kind == "scenes":
        dataset = _scenes(spec, options)
    else:
        dataset = load_coco(_need(spec, "annotations"), _need(spec, "images"), **options)
    if kind == "lvis":
        dataset.metric = "lvis"
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


def _need(spec: Mapping[str, Any], key: str) -> Any:
    if not spec.get(key):
        raise UserError(
            f"Missing key `{key}` of a data set of format {spec.get('format', 'coco')}."
        )
    return spec[key]


def _voc(spec: Mapping[str, Any], options: dict[str, Any]) -> DetectionDataset:
    images = spec.get("images") or None
    if spec.get("root"):
        return load_voc(spec["root"], _need(spec, "split"), images_dir=images, **options)
    path = Path(_need(spec, "annotations"))
    if path.suffix != ".txt" or path.parent.name != "Main":
        raise UserError(
            "Invalid value for `annotations`. Expected ROOT/ImageSets/Main/SPLIT.txt for VOC. "
            f"Received {str(path)!r}."
        )
    return load_voc(path.parents[2], path.stem, images_dir=images, **options)


def _scenes(spec: Mapping[str, Any], options: dict[str, Any]) -> DetectionDataset:
    root = Path(_need(spec, "root"))
    given = {k: spec[k] for k in _KEYS["scenes"][2:] if spec.get(k) is not None}
    annotations = ensure_scenes(root, int(spec.get("scene_count") or 64), **given)
    return load_coco(annotations, root / "images", **options)
