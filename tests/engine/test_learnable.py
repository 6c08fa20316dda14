"""Training data without a box to learn from are refused with the likely cause."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from unidet.config.measured import is_measured
from unidet.data import load_coco
from unidet.engine.learnable import check_learnable
from unidet.errors import UserError


def document(*boxes: list[float], **more: Any) -> dict[str, Any]:
    return {
        "images": [{"id": 1, "file_name": "a.png", "width": 100, "height": 80}],
        "categories": [{"id": 1, "name": "x"}],
        "annotations": [
            {"id": i, "image_id": 1, "category_id": 1, "bbox": box, **more}
            for i, box in enumerate(boxes, 1)
        ],
    }


@pytest.fixture
def load(tmp_path: Path) -> Callable[[dict[str, Any]], Any]:
    import json

    def make(content: dict[str, Any], **options: Any) -> Any:
        path = tmp_path / "train.json"
        path.write_text(json.dumps(content))
        return load_coco(path, tmp_path, **options)

    return make


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (document(), "1 images, no boxes"),
        (document([10, 10, 20, 20], iscrowd=1), "1 are crowd regions"),
        (document([10, 10, 20, 20], ignore=1), "1 are marked to be ignored"),
        (document([10, 10, 0, 20], [10, 10, 20, 0.5]), "2 have a width or a height below"),
        (document([120, 10, 20, 20], [-30, 0, 20, 20]), "2 lie outside"),
        (document([0.1, 0.2, 0.5, 0.5], [0, 0, 1, 1]), "2 are smaller .* normalised"),
    ],
)
def test_nothing_to_learn(content: Any, message: str, load: Callable[..., Any]) -> None:
    dataset = load(content)
    with pytest.raises(UserError, match=message) as caught:
        check_learnable([dataset])
    assert "\n" not in str(caught.value)
    # One box in another set suffices.
    check_learnable([dataset, load(document([10, 10, 20, 20]))])


def test_what_was_left_out_is_told(load: Callable[..., Any]) -> None:
    dataset = load(document([1, 2]), on_bad="skip")
    with pytest.raises(UserError, match=r"1 entries were left out, the first: .*annotations\[0\]"):
        check_learnable([dataset])


def test_minus_one_is_no_value_of_a_metric() -> None:
    assert is_measured(0.0, maximise=True) and is_measured(-0.2, maximise=False)
    assert not is_measured(-1.0, maximise=True) and not is_measured(float("nan"), maximise=False)
