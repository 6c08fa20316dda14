"""The localisation report, judged by distances worked out by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from unidet.cli.main import main
from unidet.evaluation.localisation import localisation


def truth(*images: list[list[float]], **changes: Any) -> dict[str, Any]:
    """COCO form; image ids count from 1."""
    boxes = [(number, box) for number, own in enumerate(images, 1) for box in own]
    return {
        "images": [
            {"id": n, "file_name": f"{n}.jpg", "width": 200, "height": 200}
            for n in range(1, len(images) + 1)
        ],
        "categories": [{"id": 1, "name": "thing"}, {"id": 2, "name": "other"}],
        "annotations": [
            {"id": i, "image_id": n, "category_id": 1, "bbox": box, "iscrowd": 0, **changes}
            for i, (n, box) in enumerate(boxes, 1)
        ],
    }


def result(image: int, box: list[float], score: float, category: int = 1) -> dict[str, Any]:
    return {"image_id": image, "category_id": category, "bbox": box, "score": score}


def test_one_object_an_image_by_hand() -> None:
    known = truth([[10, 20, 100, 50]], [[0, 0, 10, 10]], [[5, 5, 5, 5]], [])
    found = [
        # Moved by (3, 4): the centre by 5, the corners by 3, 4, 3, 4.
        result(1, [13, 24, 100, 50], 0.9),
        result(1, [10, 20, 100, 50], 0.8),
        # Twice as wide: the centre by 5, the corners by 0, 0, 10, 0.
        result(2, [0, 0, 20, 10], 0.3, category=2),
        result(3, [5, 5, 5, 5], 0.29),
        result(4, [5, 5, 5, 5], 0.9),
    ]
    report = localisation(known, found).to_dict()
    shared = 97 * 46
    ious = [shared / (2 * 5000 - shared), 0.5]
    mean = sum(ious) / 2
    top = report["top"]
    assert top["pairs"] == 2
    assert top["centre_px"] == {"mean": 5.0, "std": 0.0}
    assert top["corner_px"] == {"mean": 3.0, "std": 0.5}
    assert top["iou"]["mean"] == pytest.approx(mean)
    assert top["iou"]["std"] == pytest.approx(abs(ious[0] - ious[1]) / 2)
    counts = [report[k] for k in ("images", "images_without_objects", "images_without_detections")]
    assert counts == [4, 1, 1]
    # The second box of image 1 is the better one, and matching by overlap takes it.
    matched = report["matched"]
    assert matched["pairs"] == 2 and report["missed"] == 1 and report["objects"] == 3
    assert matched["centre_px"] == {"mean": 2.5, "std": 2.5}
    assert matched["corner_px"] == {"mean": 1.25, "std": 1.25}
    assert matched["iou"] == {"mean": 0.75, "std": 0.25}


def test_several_objects_are_told_apart() -> None:
    known = truth([[0, 0, 10, 10], [20, 0, 10, 10], [100, 100, 10, 10]])
    found = [
        result(1, [22, 0, 10, 10], 0.9),
        result(1, [1, 0, 10, 10], 0.8),
        result(1, [0, 2, 10, 10], 0.7),
    ]
    report = localisation(known, found).to_dict()
    assert report["top"]["centre_px"] == {"mean": 2.0, "std": 0.0}
    # 1 px beside the first object and 2 px beside the second; the third one is missed.
    assert report["matched"]["centre_px"] == {"mean": 1.5, "std": 0.5}
    assert report["missed"] == 1


def test_a_detection_is_used_once() -> None:
    known = truth([[0, 0, 10, 10], [4, 0, 10, 10]])
    report = localisation(known, [result(1, [0, 0, 10, 10], 0.9)]).to_dict()
    assert report["matched"]["pairs"] == 1 and report["missed"] == 1
    assert report["matched"]["iou"]["mean"] == 1.0


def test_a_box_that_overlaps_nothing_is_measured_to_the_nearest_object() -> None:
    known = truth([[0, 0, 10, 10], [150, 150, 10, 10]])
    report = localisation(known, [result(1, [130, 150, 10, 10], 0.9)]).to_dict()
    assert report["top"]["centre_px"]["mean"] == 20.0 and report["top"]["iou"]["mean"] == 0.0
    assert report["matched"]["pairs"] == 0 and report["missed"] == 2


@pytest.mark.parametrize(
    ("known", "found", "counts"),
    [
        (truth(), [], (0, 0, 0, 0)),
        (truth([], []), [result(1, [0, 0, 1, 1], 1.0)], (2, 2, 0, 0)),
        (truth([[0, 0, 9, 9]]), [], (1, 0, 1, 1)),
        (truth([[0, 0, 9, 9]], iscrowd=1), [result(1, [0, 0, 9, 9], 1.0)], (1, 1, 0, 0)),
        (truth([[0, 0, 9, 9]]), [result(7, [0, 0, 9, 9], 1.0)], (1, 0, 1, 1)),
    ],
)
def test_nothing_to_measure_is_said_without_nan(
    known: dict[str, Any], found: list[dict[str, Any]], counts: tuple[int, ...]
) -> None:
    report = localisation(known, found)
    told = report.to_dict()
    keys = ("images", "images_without_objects", "images_without_detections", "missed")
    assert tuple(told[key] for key in keys) == counts
    assert told["top"]["iou"] == {"mean": None, "std": None} and told["matched"]["pairs"] == 0
    json.dumps(told, allow_nan=False)
    assert "nan" not in report.table().lower()


def test_boxes_without_area_give_no_nan() -> None:
    known = truth([[10, 10, 0, 0]])
    told = localisation(known, [result(1, [10, 10, 0, 0], 1.0)]).to_dict()
    assert told["top"]["centre_px"]["mean"] == 0.0 and told["top"]["iou"]["mean"] == 0.0
    assert told["missed"] == 1


def test_images_may_be_chosen_and_the_threshold_is_checked() -> None:
    known = truth([[0, 0, 10, 10]], [[0, 0, 10, 10]])
    found = [result(1, [0, 0, 10, 10], 0.9), result(2, [9, 0, 10, 10], 0.9)]
    assert localisation(known, found, image_ids=[1]).to_dict()["top"]["iou"]["mean"] == 1.0
    assert localisation(known, found, score_threshold=0.95).images_without_detections == 2
    for bad in (-0.1, 1.5, math.nan):
        with pytest.raises(ValueError, match="score_threshold"):
            localisation(known, found, score_threshold=bad)


def test_the_command_adds_it_to_a_results_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known, out = tmp_path / "truth.json", tmp_path / "out.json"
    found = tmp_path / "found.json"
    area = {"area": 5000}
    known.write_text(json.dumps(truth([[10, 20, 100, 50]], **area)))
    found.write_text(json.dumps([result(1, [13, 24, 100, 50], 0.4)]))
    words = ["eval", "--data", str(known), "--check-results", str(found), "--json", str(out)]
    assert main(words) == 0
    assert "localisation" not in capsys.readouterr().out
    assert "localisation" not in json.loads(out.read_text())
    assert main([*words, "--localisation"]) == 0
    assert "5.00 +- 0.00" in capsys.readouterr().out
    assert json.loads(out.read_text())["localisation"]["top"]["centre_px"]["mean"] == 5.0
    assert main([*words, "--localisation", "--score-threshold", "0.5"]) == 0
    assert "1 of the others without a detection" in capsys.readouterr().out
    assert main(["eval", "boxes.npz", "--data", str(known), "--localisation"]) == 2
    assert "--localisation" in capsys.readouterr().err
