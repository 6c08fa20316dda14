"""Generated scenes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from unidet.data import DetectionDataset, generate_scenes, load_coco, load_dataset
from unidet.data.check import check_dataset
from unidet.data.scenes import SCENE_CLASSES, render_scene
from unidet.errors import UserError


def test_a_scene_depends_on_seed_and_index_alone() -> None:
    one, same = (render_scene(4, 7, size=(96, 128)) for _ in range(2))
    np.testing.assert_array_equal(one.image, same.image)
    np.testing.assert_array_equal(one.boxes_xywh, same.boxes_xywh)
    for seed, index in ((4, 8), (5, 7)):
        assert not np.array_equal(render_scene(seed, index, size=(96, 128)).image, one.image)


def test_boxes_are_inside_large_enough_and_of_all_classes() -> None:
    scenes = [render_scene(0, i, size=(120, 160)) for i in range(40)]
    boxes = np.concatenate([s.boxes_xywh for s in scenes])
    assert len(boxes) > 80 and (boxes >= 0).all()
    assert (boxes[:, 0] + boxes[:, 2] <= 160).all() and (boxes[:, 1] + boxes[:, 3] <= 120).all()
    # Partly hidden ones may be narrower; most are whole.
    assert np.median(boxes[:, 2:].min(axis=1)) >= 20 and boxes[:, 2:].min() >= 8
    assert set(np.concatenate([s.labels for s in scenes])) == set(range(len(SCENE_CLASSES)))
    areas = np.concatenate([s.areas for s in scenes])
    assert (areas > 0).all() and (areas <= boxes[:, 2:].prod(axis=1)).all()


def test_objects_stand_out_from_the_ground() -> None:
    contrast = []
    for i in range(20):
        scene = render_scene(1, i, size=(96, 128), max_objects=1)
        for x, y, w, h in scene.boxes_xywh.astype(int):
            inner = scene.image[y + h // 4 : y + 3 * h // 4, x + w // 4 : x + 3 * w // 4]
            outside = np.ones(scene.image.shape[:2], bool)
            outside[y : y + h, x : x + w] = False
            difference = inner.reshape(-1, 3).mean(0) - scene.image[outside].mean(0)
            contrast.append(np.linalg.norm(difference))
    assert len(contrast) >= 15 and np.median(contrast) > 60


def test_written_scenes_have_no_defects(scenes_dir: Path, scenes: DetectionDataset) -> None:
    report = check_dataset(scenes_dir / "annotations.json", scenes_dir / "images")
    assert report.images == 10 and not report.defects
    want = render_scene(5, 3, size=(96, 128))
    np.testing.assert_allclose(scenes.annotations[3].boxes_xywh, want.boxes_xywh)
    error = np.abs(scenes.read(3).astype(int) - want.image)
    assert error.mean() < 8  # JPEG


def test_start_continues_a_series(scenes: DetectionDataset, tmp_path: Path) -> None:
    path = generate_scenes(tmp_path / "rest", 2, size=(96, 128), seed=5, start=8)
    rest = load_coco(path, tmp_path / "rest/images")
    for i in (0, 1):
        np.testing.assert_array_equal(rest.read(i), scenes.read(8 + i))
        assert rest.images[i].id == scenes.images[8 + i].id


def test_existing_folders_are_kept(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    generate_scenes(out, 2, size=(64, 64))
    with pytest.raises(UserError, match="not empty"):
        generate_scenes(out, 1, size=(64, 64))
    generate_scenes(out, 1, size=(64, 64), overwrite=True)
    assert sorted(p.name for p in (out / "images").iterdir()) == ["000000.jpg"]
    (out / "diary.txt").write_text("mine")
    with pytest.raises(UserError, match=r"diary\.txt"):
        generate_scenes(out, 1, size=(64, 64), overwrite=True)
    assert (out / "diary.txt").read_text() == "mine"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_nothing_is_left_after_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **options: object) -> None:
        raise UserError("disk full")

    monkeypatch.setattr("unidet.data.scenes.write_image", fail)
    with pytest.raises(UserError, match="disk full"):
        generate_scenes(tmp_path / "out", 2, size=(64, 64))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": 0}, "count"),
        ({"size": (10, 64)}, "size"),
        ({"classes": ["rign"]}, "Did you mean 'ring'"),
        ({"classes": []}, "classes"),
        ({"classes": ["ring", "ring"]}, "classes"),
        ({"max_objects": 0}, "max_objects"),
    ],
)
def test_bad_arguments(options: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        generate_scenes(tmp_path / "out", **{"count": 1, **options})
    assert list(tmp_path.iterdir()) == []


def test_load_dataset_makes_scenes_once(tmp_path: Path) -> None:
    spec = {"format": "scenes", "root": str(tmp_path / "s"), "scene_count": 3, "size": (64, 64)}
    first = load_dataset(spec)
    stamp = first.images[0].path.stat().st_mtime_ns
    assert len(first) == 3
    assert load_dataset(spec).images[0].path.stat().st_mtime_ns == stamp
    for change in ({"scene_count": 4}, {"size": (64, 80)}, {"seed": 1}):
        with pytest.raises(UserError, match="other scenes"):
            load_dataset({**spec, **change})


def test_a_spec_chooses_classes_and_crowding(tmp_path: Path) -> None:
    spec = {"format": "scenes", "root": tmp_path / "few", "scene_count": 6, "size": (96, 96)}
    dataset = load_dataset({**spec, "classes": ["star", "ring"], "max_objects": 1})
    assert dataset.class_names == ("star", "ring")
    assert max(len(dataset.targets(i)) for i in range(len(dataset))) == 1
