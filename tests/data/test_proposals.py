"""Given proposals: read by image id, moved along with the picture, refused where they are wrong."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from unidet.data import DetectionDataset, Loader, Preprocess
from unidet.data.proposals import read_proposals, write_proposals
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
        ({**whole, last: [[1, 2, 3, 4, 0.5]]}, "some with and some without"),
        ({"-5": [], "-6": []}, "0 of 10 images"),
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
    other = given.select(range(len(given)))
    other.proposals = list(scored(given).values())
    with pytest.raises(UserError, match="some with and some without"):
        Loader([given, other], SMALL, 2)


def scored(data: DetectionDataset) -> dict[int, np.ndarray]:
    """Ten boxes of each image by falling score, which is unique; none for the second image."""
    rng = np.random.default_rng(0)
    found = {}
    for i, record in enumerate(data.images):
        corner = rng.uniform(0, 60, (10 * (i != 1), 2))
        score = np.sort(rng.random((len(corner), 1)), axis=0)[::-1]
        rows = np.concatenate([corner, corner + rng.uniform(2, 90, corner.shape), score], axis=1)
        found[record.id] = rows.astype(np.float32)
    return found


def test_scores_stay_with_their_boxes_when_others_drop_out(scenes: DetectionDataset) -> None:
    part = scenes.select(range(len(scenes)))
    part.proposals = list(scored(scenes).values())
    augmentations = [HorizontalFlip(), RandomZoom(1.4, 1.8)]
    loader = Loader(part, SMALL, 3, shuffle=True, seed=4, augmentations=augmentations)
    plain = scenes.select(range(len(scenes)))
    plain.proposals = [rows[:, :4] for rows in part.proposals]
    bare = Loader(plain, SMALL, 3, shuffle=True, seed=4, augmentations=augmentations)
    left = 0
    by_id = dict(zip((r.id for r in part.images), part.proposals))
    for batch, corners in zip(loader, bare):
        for image_id, rows, boxes in zip(batch.image_ids, batch.proposals, corners.proposals):
            assert rows.dtype == np.float32 and rows.shape[1] == 5
            np.testing.assert_array_equal(rows[:, :4], boxes)
            given_scores = by_id[image_id][:, 4]
            assert (np.diff(rows[:, 4]) < 0).all() and set(rows[:, 4]) <= set(given_scores)
            left += len(rows)
    assert 0 < left < 90, "the zoom drops some"
    # Without augmentation each score meets its own box.
    for batch in Loader(part, SMALL, 2):
        for image_id, rows in zip(batch.image_ids, batch.proposals):
            own = by_id[image_id]
            scaled = np.clip(own[:, :4] * 0.5, 0, [64, 48, 64, 48])
            where = [own[:, 4].tolist().index(score) for score in rows[:, 4]]
            np.testing.assert_allclose(rows[:, :4], scaled[where], atol=1e-4)


@pytest.mark.parametrize("suffix", [".npz", ".pkl"])
def test_written_proposals_come_back(suffix: str, scenes: DetectionDataset, tmp_path: Path) -> None:
    table, path = scored(scenes), tmp_path / f"new/boxes{suffix}"
    write_proposals(path, table)
    found = read_proposals(path, scenes)
    assert [f.shape for f in found] == [t.shape for t in table.values()]
    for rows, own in zip(found, table.values()):
        np.testing.assert_array_equal(rows, own)
    before = path.read_bytes()
    with pytest.raises(UserError, match="exists"):
        write_proposals(path, table)
    with pytest.raises(UserError, match="finite"):
        write_proposals(path, {1: np.full((2, 5), np.nan)}, overwrite=True)
    assert path.read_bytes() == before and len(list(path.parent.iterdir())) == 1
    with pytest.raises(UserError, match=r"\.npz or \.pkl"):
        write_proposals(tmp_path / "boxes.txt", table)


def test_rows_are_read_by_falling_score(scenes: DetectionDataset, tmp_path: Path) -> None:
    part, path = scenes.select([0]), tmp_path / "a.json"
    path.write_text(json.dumps({part.images[0].id: [[1, 2, 3, 4, 0.1], [5, 6, 7, 8, 0.9]]}))
    assert read_proposals(path, part)[0][:, 4].tolist() == pytest.approx([0.9, 0.1])


def test_pickle_is_readable_without_unidet(scenes: DetectionDataset, tmp_path: Path) -> None:
    write_proposals(tmp_path / "a.pkl", scored(scenes))
    code = (
        "import pickle, sys; found = pickle.load(open(sys.argv[1], 'rb')); "
        "assert type(found) is list; print(*(f'{a.dtype}{a.shape}' for a in found)); "
        "assert 'unidet' not in sys.modules"
    )
    words = [sys.executable, "-c", code, str(tmp_path / "a.pkl")]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.split("float32")[1:3] == ["(10, 5) ", "(0, 5) "]


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_pickles_of_the_official_tools_are_read(
    protocol: int, scenes: DetectionDataset, tmp_path: Path
) -> None:
    path, arrays = tmp_path / "rp_val.pkl", list(scored(scenes).values())
    path.write_bytes(pickle.dumps(arrays, protocol=protocol))
    for rows, own in zip(read_proposals(path, scenes), arrays, strict=True):
        np.testing.assert_array_equal(rows, own)
    with pytest.raises(UserError, match=r"each of the 9 images.*Received 10"):
        read_proposals(path, scenes.select(range(9)))


class Hostile:
    """Runs a command when an ordinary unpickler meets it."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch executed",)


def test_bad_pickles_are_refused(
    scenes: DetectionDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    whole = pickle.dumps(list(scored(scenes).values()), protocol=4)
    cases = [
        (pickle.dumps([Hostile()] * 10), "posix.system; nothing was executed"),
        (whole[:-200], "cannot be read"),
        (whole[:50] + b"\xff" + whole[51:], "cannot be read"),
        (b"", "cannot be read"),
        (b"\x80\x04}.", "Received a dict"),
        (pickle.dumps([None] * 10), "another form"),
        (pickle.dumps(["boxes"] * 10), "another form"),
        (pickle.dumps([np.zeros((3, 7))] * 10), "another form"),
    ]
    for content, message in cases:
        Path("a.pkl").write_bytes(content)
        with pytest.raises(UserError, match=message) as caught:
            read_proposals("a.pkl", scenes)
        assert "a.pkl" in str(caught.value) and "\n" not in str(caught.value)
    assert os.listdir() == ["a.pkl"]
