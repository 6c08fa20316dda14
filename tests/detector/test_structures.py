"""Forms in which detections leave the library."""

from __future__ import annotations

import builtins
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unidet.errors import UserError
from unidet.structures import Detections
from unidet.visualization import read_image


@pytest.fixture
def two() -> Detections:
    return Detections(
        np.array([[1, 2, 11.5, 22], [5, 5, 9, 6]], np.float32),
        np.array([0.75, 0.25], np.float32),
        np.array([1, 0]),
        ("cat", "dog"),
    )


def test_coco_form(two: Detections) -> None:
    assert two.to_coco(7, (3, 9)) == [
        {"image_id": 7, "category_id": 9, "bbox": [1.0, 2.0, 10.5, 20.0], "score": 0.75},
        {"image_id": 7, "category_id": 3, "bbox": [5.0, 5.0, 4.0, 1.0], "score": 0.25},
    ]
    assert [r["category_id"] for r in two.to_coco(7)] == [1, 0]
    assert Detections.empty().to_coco(1, ()) == []


def test_coco_form_comes_back(two: Detections) -> None:
    back = Detections.from_coco(two.to_coco(7, (3, 9)), (3, 9), ("cat", "dog"))
    np.testing.assert_array_equal(back.boxes_xyxy, two.boxes_xyxy)
    np.testing.assert_array_equal(back.labels, two.labels)
    np.testing.assert_array_equal(back.scores, two.scores)
    assert len(Detections.from_coco([])) == 0


def test_label_without_category_is_refused(two: Detections) -> None:
    with pytest.raises(ValueError, match="Received 1 for labels 0 to 1"):
        two.to_coco(7, (3,))
    with pytest.raises(UserError, match="Received 9"):
        Detections.from_coco(two.to_coco(7, (3, 9)), (3, 4))


def test_names(two: Detections) -> None:
    assert two.names() == ["dog", "cat"]
    two.class_names = None
    assert two.names() == ["1", "0"]


def test_supervision_missing_is_explained(two: Detections, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def absent(name: str, *args: Any, **kwargs: Any) -> types.ModuleType:
        if name == "supervision":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(ImportError, match="pip install supervision"):
        two.to_supervision()


def test_supervision_receives_all_fields(two: Detections, monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("supervision")
    module.Detections = lambda **fields: fields  # type: ignore[attr-defined]
    monkeypatch.setitem(__import__("sys").modules, "supervision", module)
    fields = two.to_supervision()
    np.testing.assert_array_equal(fields["xyxy"], two.boxes_xyxy)
    np.testing.assert_array_equal(fields["class_id"], two.labels)
    assert fields["data"]["class_name"].tolist() == ["dog", "cat"]


def test_draw_changes_a_copy_and_saves(two: Detections, tmp_path: Path) -> None:
    image = np.full((40, 60, 3), 128, np.uint8)
    picture = two.draw(image, tmp_path / "new" / "drawn.png")
    assert (image == 128).all()
    assert (picture != 128).any()
    np.testing.assert_array_equal(read_image(tmp_path / "new" / "drawn.png"), picture)
    np.testing.assert_array_equal(two.draw(tmp_path / "new" / "drawn.png").shape, (40, 60, 3))
