"""Generated scenes whose classes are a colour and a shape, and their text-like vectors."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from unidet.cli.main import main
from unidet.data import generate_scenes, load_coco
from unidet.data.scene_colours import PALETTE, scene_class_names, shade
from unidet.data.scene_vectors import compositional_vectors, write_vectors
from unidet.data.scenes import SCENE_CLASSES, ensure_scenes, render_scene
from unidet.errors import UserError
from unidet.text.stored import read_embeddings

SHAPES = ("disc", "square")
COLOURS = ("red", "green", "blue")


def hue(pixels: np.ndarray) -> float:
    """Hue in degrees of the mean of RGB pixels."""
    mean = pixels.reshape(-1, 3).mean(axis=0, dtype=np.float64).astype(np.float32) / 255
    return float(cv2.cvtColor(mean[None, None], cv2.COLOR_RGB2HSV)[0, 0, 0])


def test_names_are_colours_with_shapes() -> None:
    assert scene_class_names(SHAPES) == SHAPES
    names = scene_class_names(SHAPES, COLOURS)
    assert names[:3] == ("red disc", "red square", "green disc") and len(names) == 6


def test_scenes_of_shapes_alone_stay_as_they_were(tmp_path: Path) -> None:
    """Their pictures are pinned, and their description says nothing of colours."""
    path = generate_scenes(tmp_path / "plain", 1, size=(64, 64))
    assert set(json.loads(path.read_text())["info"]) == {
        "description", "count", "size", "seed", "classes", "max_objects", "start",
    }  # fmt: skip
    plain = render_scene(3, 1, size=(64, 96))
    same = render_scene(3, 1, size=(64, 96), colours=(), without=())
    np.testing.assert_array_equal(plain.image, same.image)
    assert hashlib.sha256(plain.boxes_xywh.tobytes()).hexdigest() == BOXES


#: Of scene 1 of series 3 at 64 x 96, as drawn before there were colours.
BOXES = "ee50e97002ee49fb382ca782f8c55221daed7a0a82bcb28c9cee8425191b215c"


def test_objects_have_the_colour_of_their_name() -> None:
    apart = []
    for index in range(30):
        scene = render_scene(2, index, size=(96, 96), max_objects=1, colours=COLOURS)
        for (x, y, w, h), label in zip(scene.boxes_xywh.astype(int), scene.labels):
            colour, shape = COLOURS[label // len(SCENE_CLASSES)], label % len(SCENE_CLASSES)
            if SCENE_CLASSES[shape] == "ring":  # shows the ground in its middle
                continue
            inner = scene.image[y + h * 2 // 5 : y + h * 3 // 5, x + w * 2 // 5 : x + w * 3 // 5]
            apart.append(abs((hue(inner) - PALETTE[colour][0] + 180) % 360 - 180))
    assert len(apart) >= 15
    assert np.median(apart) < 15 and max(apart) < 55


def test_shades_vary_within_their_colour() -> None:
    rng = np.random.default_rng(0)
    for colour, (centre, spread, _, _) in PALETTE.items():
        shades = np.array([shade(rng, colour) for _ in range(50)])
        assert shades.min() >= 0 and shades.max() <= 255.001 and shades.std(axis=0).max() > 5
        turned = [abs((hue(one) - centre + 180) % 360 - 180) for one in shades]
        assert max(turned) <= spread + 0.5


def test_left_out_classes_are_listed_and_never_drawn(tmp_path: Path) -> None:
    options: dict[str, Any] = {"size": (64, 64), "classes": SHAPES, "colours": COLOURS}
    without = ["red disc", "blue square"]
    path = generate_scenes(tmp_path / "s", 40, **options, without=without)
    dataset = load_coco(path, path.parent / "images")
    assert dataset.class_names == scene_class_names(SHAPES, COLOURS)
    drawn = np.unique(np.concatenate([entry.labels for entry in dataset.annotations]))
    assert {dataset.class_names[i] for i in drawn} == set(dataset.class_names) - set(without)
    assert ensure_scenes(tmp_path / "s", 40, **options, without=without) == path
    for change in ({}, {"without": ["red disc"]}):
        with pytest.raises(UserError, match="other scenes"):
            ensure_scenes(tmp_path / "s", 40, **{**options, **change})
    del options["colours"]
    with pytest.raises(UserError, match="other scenes"):
        ensure_scenes(tmp_path / "s", 40, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"colours": ["rad"]}, "Did you mean 'red'"),
        ({"colours": ["red", "red"]}, "each once"),
        ({"colours": ["red"], "without": ["red dist"]}, "Did you mean 'red disc'"),
        ({"without": ["red disc"]}, "without"),
        ({"classes": ["disc"], "without": ["disc"]}, "all 1"),
    ],
)
def test_bad_colours(options: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        generate_scenes(tmp_path / "out", 1, size=(64, 64), **options)
    assert list(tmp_path.iterdir()) == []


def test_vectors_share_what_names_share() -> None:
    names = ["red disc", "red ring", "blue disc", "Red Disc"]
    rows = compositional_vectors(names, 256, seed=1)
    assert rows.shape == (4, 256) and rows.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    cosine = rows @ rows.T
    assert abs(cosine[0, 1] - 0.5) < 0.15 and abs(cosine[0, 2] - 0.5) < 0.15
    assert abs(cosine[1, 2]) < 0.25 and cosine[0, 3] > 0.9999
    # A word has one direction, whatever else is named.
    np.testing.assert_array_equal(compositional_vectors(names[1:2], 256, seed=1)[0], rows[1])
    assert not np.allclose(compositional_vectors(names, 256, seed=2), rows)


def test_commands_make_data_and_vectors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "s"
    shapes = ["--classes", "disc,ring", "--colours", "red,blue", "--without", "red disc, blue ring"]
    assert main(["data", "scenes", str(out), "--count", "3", "--size", "64", "64", *shapes]) == 0
    annotations = out / "annotations.json"
    names = load_coco(annotations, out / "images").class_names
    command = ["data", "vectors", "--data", str(annotations), "--dim", "16", "--out"]
    target = tmp_path / "new" / "v.npy"
    assert main([*command, str(target)]) == 0
    assert "4 names x 16" in capsys.readouterr().out
    np.testing.assert_array_equal(read_embeddings(target, names), compositional_vectors(names, 16))
    assert json.loads(target.with_suffix(".json").read_text())["names"] == list(names)
    before = target.read_bytes()
    assert main([*command, str(target), "--seed", "1"]) == 2
    assert "exists" in capsys.readouterr().err and target.read_bytes() == before
    assert main([*command, str(target), "--seed", "1", "--overwrite"]) == 0
    assert target.read_bytes() != before


@pytest.mark.parametrize(
    ("names", "path", "dim", "message"),
    [
        (["red disc"], "v.npz", 8, "ends in .npy"),
        (["red disc"], "v.npy", 1, "dim"),
        (["red disc", " "], "v.npy", 8, "empty name"),
    ],
)
def test_bad_vectors(names: list[str], path: str, dim: int, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        write_vectors(names, tmp_path / path, dim=dim)
    assert list(tmp_path.iterdir()) == []
