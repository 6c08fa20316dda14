"""Given proposals: read by image id, moved along with the picture, refused where they are wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from unidet.data import DetectionDataset, Loader, Preprocess
from unidet.data.proposals import read_proposals
from unidet.data.transforms import HorizontalFlip, RandomZoom
from unidet.errors import UserError

SMALL = Preprocess(resize="fixed", size=(48, 64))


def tables(scenes: DetectionDataset) -> dict[str, list[list[float]]]:
    """The objects themselves; none for the first image."""
    entries = {str(r.id): a.boxes_xyxy for r, a in zip(scenes.images, scenes.annotations)}
    entries[str(scenes.images[0].id)] = np.zeros((0, 4))
    return {key: boxes.tolist() for key, boxes in entries.items()}


@pytest.fixture
def given(scenes: DetectionDataset, tmp_path: Path) -> DetectionDataset:
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps(tables(scenes)))
    part = scenes.select(range(len(scenes)))
    part.proposals = read_proposals(path, part)
    return part


def test_both_forms_say_the_same(
    scenes: DetectionDataset, given: DetectionDataset, tmp_path: Path
) -> None:
    np.savez(tmp_path / "boxes.npz", **{k: np.array(v) for k, v in tables(scenes).items()})
    other = read_proposals(tmp_path / "boxes.npz", scenes)
    assert len(other) == len(given.proposals) == len(scenes)
    assert given.proposals[0].shape == (0, 4) and len(given.proposals[1])
    for a, b, entry in zip(other[1:], given.proposals[1:], scenes.annotations[1:]):
        assert a.dtype == b.dtype == np.float32
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, entry.boxes_xyxy)
    assert given.select([2]).proposals[0] is given.proposals[2]


def test_they_move_with_the_objects(given: DetectionDataset) -> None:
    augmentations = [HorizontalFlip(), RandomZoom(0.8, 1.2)]
    loader = Loader(given, SMALL, 2, shuffle=True, seed=4, augmentations=augmentations)
    first = given.images[0].id
    for batch in loader:
        assert len(batch.proposals) == len(batch)
        for image_id, boxes, target in zip(batch.image_ids, batch.proposals, batch.targets):
            assert (target.labels >= 0).all() and not target.ignore.any()
            if image_id == first:
                assert boxes.shape == (0, 4)
            else:
                np.testing.assert_array_equal(boxes, target.boxes_xyxy)
    assert Loader(given.select([1]), SMALL, 1).epoch(0).__next__().proposals[0].max() <= 64


def test_without_them_nothing_changes(scenes: DetectionDataset, given: DetectionDataset) -> None:
    options = {"shuffle": True, "seed": 4, "augmentations": [RandomZoom()]}
    for plain, other in zip(
        Loader(scenes, SMALL, 3, **options), Loader(given, SMALL, 3, **options)
    ):
        assert len(plain.proposals) == 0
        np.testing.assert_array_equal(plain.images, other.images)
        for a, b in zip(plain.targets, other.targets):
            np.testing.assert_array_equal(a.boxes_xyxy, b.boxes_xyxy)


def test_outside_the_image_they_are_cut(scenes: DetectionDataset) -> None:
    part = scenes.select([0])
    part.proposals = [np.array([[-50, -9, 999, 48], [500, 500, 600, 600]], np.float32)]
    batch = next(iter(Loader(part, SMALL, 1)))
    np.testing.assert_allclose(batch.proposals[0], [[0, 0, 64, 24]])


def test_what_is_wrong_is_named(scenes: DetectionDataset, tmp_path: Path) -> None:
    path, whole = tmp_path / "boxes.json", tables(scenes)
    last = str(scenes.images[-1].id)
    cases: list[tuple[object, str]] = [
        ({k: v for k, v in whole.items() if k != last}, f"none for {last}.*9 of 10"),
        ({**whole, last: [[1, 2, 3]]}, f"four finite numbers.*image {last}"),
        ({**whole, last: [[1, 2, 3, float("nan")]]}, "four finite numbers"),
        ({**whole, last: "boxes"}, "four finite numbers"),
        (list(whole.values()), "Received list"),
    ]
    for content, message in cases:
        path.write_text(json.dumps(content))
        with pytest.raises(UserError, match=message):
            read_proposals(path, scenes)
    for name, text in (("a.json", "{"), ("a.npz", "PK"), ("a.txt", "")):
        (tmp_path / name).write_text(text)
        with pytest.raises(UserError, match=name):
            read_proposals(tmp_path / name, scenes)
    with pytest.raises(UserError, match="not found"):
        read_proposals(tmp_path / "b.json", scenes)


def test_mixed_data_sets_have_them_all_or_none(
    scenes: DetectionDataset, given: DetectionDataset
) -> None:
    with pytest.raises(UserError, match=r"`proposals`.*Received none for"):
        Loader([given, scenes], SMALL, 2)
