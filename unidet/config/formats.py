"""Names of the forms of annotations; their readers are in :mod:`unidet.data.sources`."""

from __future__ import annotations

#: Forms of annotation files. Plugins add theirs.
ANNOTATION_FORMATS = ["coco", "lvis", "voc"]
#: The generated data, which has no annotation file.
SCENES = "scenes"


def annotation_formats() -> tuple[str, ...]:
    """What an annotation file may be."""
    return tuple(ANNOTATION_FORMATS)


def data_formats() -> tuple[str, ...]:
    """What ``data.format`` may be."""
    return (*ANNOTATION_FORMATS, SCENES)


def source_formats() -> tuple[str, ...]:
    """What ``format`` of one source may be; empty for that of the data."""
    return ("", *ANNOTATION_FORMATS)
