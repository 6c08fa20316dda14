"""Given proposals: boxes from a file or another model, for models that classify them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unidet.data.proposal_pickle import read_list, write_list
from unidet.data.transforms import clip_targets, scale_targets
from unidet.errors import UserError
from unidet.files.arrays import read_npz
from unidet.files.atomic import atomic_path
from unidet.files.outputs import make_parent
from unidet.files.reading import read_json
from unidet.structures import Targets

if TYPE_CHECKING:
    from unidet.data.dataset import DetectionDataset

#: Suffixes of files with proposals.
SUFFIXES = (".json", ".npz", ".pkl")


def read_proposals(path: str | Path, dataset: DetectionDataset) -> list[np.ndarray]:
    """Proposals of every image of a data set.

    Args:
        path: ``.json``, an object that gives each image id a list of ``[x1, y1, x2, y2]``, or
            ``.npz`` with an array ``(n, 4)`` named by each image id; a fifth number is the score.
            ``.pkl`` is the form of UniDetector's own tools: a list of ``(n, 5)`` arrays in the
            order of the images, without ids. Corners are in pixels of the original image. No
            boxes is an empty list; ids of other images are passed over.
        dataset: whose images they are; for ``.pkl`` all images of the annotation file.

    Returns:
        ``(n, 4)`` float32 of each image in its order, or ``(n, 5)`` where the file has scores;
        by falling score, else as in the file, where the best are expected first.

    Raises:
        UserError: no such file, another form, an image without an entry, a list of another
            length, a hostile pickle, or numbers that are not finite.
    """
    path = Path(path)
    found = [_rows(entry, record.id, path) for record, entry in _entries(path, dataset)]
    columns = {rows.shape[1] for rows in found if len(rows)}
    if len(columns) > 1:
        raise UserError(
            f"Invalid proposals {path}. Expected scores for all images or for none. "
            "Received some with and some without."
        )
    empty = np.zeros((0, max(columns, default=4)), np.float32)
    return [rows if len(rows) else empty for rows in found]


def write_proposals(
    path: str | Path, proposals: Mapping[int, np.ndarray], *, overwrite: bool = False
) -> Path:
    """Writes proposals, whole or not at all.

    Args:
        path: ``.npz``, with an array named by each image id, or ``.pkl``, the list of arrays that
            UniDetector's own tools read.
        proposals: ``(n, 4)`` or ``(n, 5)`` of each image id, in pixels of the original image. The
            order of the entries is that of the list; it has to be that of the annotation file.
        overwrite: replace an existing file.

    Raises:
        UserError: another suffix, an array of another form, the file exists, or it cannot be
            written.
        RunFailedError: the disk refused the write.
    """
    path = check_destination(path, overwrite=overwrite)
    arrays = {key: _rows(rows, key, path) for key, rows in proposals.items()}
    make_parent(path)
    if path.suffix == ".pkl":
        write_list(path, list(arrays.values()), overwrite=overwrite)
        return path
    with atomic_path(path, overwrite=overwrite) as temporary, open(temporary, "xb") as file:
        np.savez(file, **{str(key): rows for key, rows in arrays.items()})
    return path


def check_destination(path: str | Path, *, overwrite: bool) -> Path:
    """The path, if proposals may be written there.

    Raises:
        UserError: another suffix than ``.npz`` and ``.pkl``, or see ``check_new``.
    """
    from unidet.data.convert import check_new

    if Path(path).suffix not in (".npz", ".pkl"):
        raise UserError(
            "Invalid destination. Expected a name that ends in .npz or .pkl. "
            f"Received {str(path)!r}."
        )
    return check_new(path, overwrite=overwrite)


def _entries(path: Path, dataset: DetectionDataset) -> list[tuple[Any, Any]]:
    """Image records with what the file says of them."""
    if not path.is_file():
        raise UserError(f"Proposals not found: {path}")
    if path.suffix not in SUFFIXES:
        raise UserError(f"Invalid proposals {path}. Expected a file of {', '.join(SUFFIXES)}.")
    if path.suffix == ".pkl":
        entries = read_list(path)
        if len(entries) != len(dataset):
            raise UserError(
                f"Invalid proposals {path}. Expected one array for each of the {len(dataset)} "
                f"images of {dataset.name}, in their order. Received {len(entries)}."
            )
        return list(zip(dataset.images, entries))
    table = _table(path)
    for record in dataset.images:
        if str(record.id) not in table:
            known = sum(str(one.id) in table for one in dataset.images)
            raise UserError(
                f"Invalid proposals {path}. Expected an entry for each image id of "
                f"{dataset.name}. Received none for {record.id} ({record.file_name}); "
                f"{known} of {len(dataset)} images have one."
            )
    return [(record, table[str(record.id)]) for record in dataset.images]


def _table(path: Path) -> Mapping[str, Any]:
    if path.suffix == ".npz":
        return read_npz(path, "Proposals")
    table = read_json(path, "Proposals")
    if not isinstance(table, dict):
        raise UserError(
            f"Invalid proposals {path}. Expected an object with a list of boxes for each image "
            f"id. Received {type(table).__name__}."
        )
    return table


def _rows(entry: Any, image_id: int, path: Path) -> np.ndarray:
    rows = _numbers(entry)
    if rows.size == 0:
        columns = 5 if rows.shape == (0, 5) else 4
        return np.zeros((0, columns), np.float32)
    if rows.ndim != 2 or rows.shape[1] not in (4, 5) or not np.isfinite(rows).all():
        raise UserError(
            f"Invalid proposals {path}. Expected rows of four finite numbers x1, y1, x2, y2, or "
            f"five with a score, for image {image_id}. Received an entry of another form."
        )
    if rows.shape[1] == 5 and (np.diff(rows[:, 4]) > 0).any():
        rows = rows[np.argsort(-rows[:, 4], kind="stable")]
    return np.ascontiguousarray(rows)


def _numbers(entry: Any) -> np.ndarray:
    """``entry`` as float32; NaN where it is no table of numbers, or of numbers beyond float32."""
    try:
        values = np.asarray(entry)
        # Text and truth values would turn into numbers by themselves.
        if values.size and values.dtype.kind not in "iuf":
            raise ValueError
        with np.errstate(over="ignore"):
            return values.astype(np.float32)
    except (TypeError, ValueError, OverflowError, RecursionError):
        return np.full((1, 1), np.nan, np.float32)


def placed(
    rows: np.ndarray,
    original: tuple[int, int],
    size: tuple[int, int],
    scale: tuple[float, float],
) -> np.ndarray:
    """Proposals in pixels of the network's input, as the loader places those of a file.

    Args:
        rows: ``(n, 4)`` or ``(n, 5)`` in pixels of the original.
        original: ``(h, w)`` of the original.
        size: ``(h, w)`` of the input before padding.
        scale: ``(sy, sx)``, size of the input over size of the original.

    Returns:
        Those that lie inside by a pixel of the original or more, cut at the border.
    """
    none = Targets(np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
    joined = clip_targets(with_proposals(none, rows), original)
    moved = clip_targets(scale_targets(joined, scale), size, 0.0)
    return without_proposals(moved, rows)[1]


def with_proposals(targets: Targets, proposals: np.ndarray) -> Targets:
    """Objects and, behind them, proposals as marked boxes, so that both are moved alike.

    Proposal ``i`` carries the label ``-1 - i``, by which its score is found again.
    """
    count = len(proposals)
    rest = np.ones(count, bool)
    return Targets(
        np.concatenate([targets.boxes_xyxy, proposals[:, :4]]),
        np.concatenate([targets.labels, -1 - np.arange(count)]),
        np.concatenate([targets.crowd, ~rest]),
        np.concatenate([targets.ignore, rest]),
    )


def without_proposals(targets: Targets, proposals: np.ndarray) -> tuple[Targets, np.ndarray]:
    """Takes apart again what :func:`with_proposals` joined.

    Args:
        targets: joined ones, moved, some perhaps dropped.
        proposals: as they were given.

    Returns:
        The objects, and the proposals that are left with the columns that they came with.
    """
    given = targets.labels < 0
    scores = proposals[-1 - targets.labels[given], 4:]
    return targets[~given], np.concatenate([targets.boxes_xyxy[given], scores], axis=1)
