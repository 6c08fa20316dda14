"""Evaluation of a model whose answers are known."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from unidet.backends import nn, ops
from unidet.data import Annotations, DetectionDataset, ImageRecord
from unidet.errors import UserError
from unidet.evaluation import METRIC_NAMES, evaluate_model
from unidet.evaluation.run import default_limit, label_categories, metric_names
from unidet.models import DetectionModel
from unidet.structures import Batch, Detections


class Oracle(DetectionModel):
    """Finds what it was told, and notes the mode in which it was asked."""

    def __init__(self, answers: dict[int, Detections], class_names: tuple[str, ...]) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 1, 1)
        self.frozen = nn.BatchNorm2d(1)
        self.answers = answers
        self.class_names = class_names
        self.modes: list[bool] = []

    def forward(self, images: Any) -> dict[str, Any]:
        self.modes.append(bool(self.training))
        return {"x": self.layer(images)}

    def predict(self, outputs: dict[str, Any], batch: Batch) -> list[Detections]:
        assert ops.shape(outputs["x"])[0] == len(batch)
        return [self.answers[i] for i in batch.image_ids]


def _dataset() -> DetectionDataset:
    boxes = [[[10, 10, 40, 40]], [[5, 5, 50, 60], [60, 10, 30, 30]]]
    labels = [[0], [1, 0]]
    return DetectionDataset(
        name="two",
        images=[ImageRecord(i, None, f"{i}.png", 100, 80) for i in (4, 8)],  # type: ignore[arg-type]
        class_names=("cat", "dog"),
        category_ids=(17, 3),
        annotations=[Annotations.build(b, x) for b, x in zip(boxes, labels)],
    )


def _batch(*image_ids: int) -> Batch:
    count = len(image_ids)
    images = np.zeros((count, 3, 8, 8), np.float32)
    sizes = [(80, 100)] * count
    return Batch(images, sizes, sizes, [(1.0, 1.0)] * count, image_ids=list(image_ids))


def _answers(dataset: DetectionDataset, names: tuple[str, ...]) -> dict[int, Detections]:
    found = {}
    for record, entry in zip(dataset.images, dataset.annotations):
        labels = np.array([names.index(dataset.class_names[i]) for i in entry.labels])
        scores = np.full(len(entry), 0.9, np.float32)
        found[record.id] = Detections(entry.boxes_xyxy, scores, labels, names)
    return found


def test_perfect_answers_score_one_and_modes_return(backend: str) -> None:
    dataset = _dataset()
    model = Oracle(_answers(dataset, ("cat", "dog")), ("cat", "dog"), backend=backend)
    model.train()
    model.frozen.eval()
    done: list[int] = []
    result = evaluate_model(model, [_batch(4), _batch(8)], dataset, progress=done.append)
    assert result.metrics["AP"] == pytest.approx(1.0)
    assert {r["category_id"] for r in result.results} == {17, 3}
    assert result.per_class["dog"]["objects"] == 1
    assert result.images_per_second > 0
    assert done == [1, 2]
    assert model.modes == [False, False]
    assert model.training
    assert not model.frozen.training


def test_classes_are_matched_by_name(backend: str) -> None:
    dataset = _dataset()
    names = ("background", "dog", "bird", "cat")
    answers = _answers(dataset, names)
    extra = Detections(
        np.array([[0, 0, 9, 9]], np.float32), np.ones(1, np.float32), np.array([2]), names
    )
    joined = Detections(
        np.concatenate([answers[4].boxes_xyxy, extra.boxes_xyxy]),
        np.concatenate([answers[4].scores, extra.scores]),
        np.concatenate([answers[4].labels, extra.labels]),
        names,
    )
    model = Oracle({**answers, 4: joined}, names, backend=backend)
    result = evaluate_model(model, [_batch(4, 8)], dataset)
    assert result.metrics["AP"] == pytest.approx(1.0)
    assert len(result.results) == 3


def test_only_loaded_images_count_and_repeated_ones_once(backend: str) -> None:
    dataset = _dataset()
    model = Oracle(_answers(dataset, ("cat", "dog")), ("cat", "dog"), backend=backend)
    result = evaluate_model(model, [_batch(4), _batch(4)], dataset)
    assert len(result.results) == 1
    assert result.metrics["AP"] == pytest.approx(1.0)


def test_best_detections_are_kept(backend: str) -> None:
    dataset = _dataset()
    boxes = np.tile(np.array([[10, 10, 50, 50]], np.float32), (5, 1))
    scores = np.array([0.1, 0.9, 0.3, 0.8, 0.2], np.float32)
    crowd = Detections(boxes, scores, np.zeros(5, np.int64))
    model = Oracle({4: crowd, 8: Detections.empty()}, ("cat", "dog"), backend=backend)
    result = evaluate_model(model, [_batch(4, 8)], dataset, max_detections=2)
    assert [r["score"] for r in result.results] == pytest.approx([0.9, 0.8])


def test_no_detections_at_all(backend: str) -> None:
    dataset = _dataset()
    answers = {4: Detections.empty(), 8: Detections.empty()}
    model = Oracle(answers, ("cat", "dog"), backend=backend)
    result = evaluate_model(model, [_batch(4, 8)], dataset)
    assert result.results == []
    assert result.metrics["AP"] == 0


def test_unrelated_classes_are_refused() -> None:
    with pytest.raises(UserError, match="Received cat"):
        label_categories(("car", "dog", "bus"), _dataset())
    assert label_categories(("katze", "hund"), _dataset()) == [17, 3]
    assert label_categories(None, _dataset()) == [17, 3]


def test_classes_do_not_count_where_that_is_asked_for(backend: str) -> None:
    dataset = _dataset()
    answers = _answers(dataset, ("cat", "dog"))
    for one in answers.values():
        one.labels[:] = 0
    model = Oracle(answers, ("cat", "dog"), backend=backend)
    assert evaluate_model(model, [_batch(4, 8)], dataset).metrics["AP"] < 0.8
    result = evaluate_model(model, [_batch(4, 8)], dataset, class_agnostic=True)
    assert tuple(result.metrics) == metric_names("coco", class_agnostic=True)
    assert result.metrics["AP"] == result.metrics["AR1000"] == 1
    assert result.per_class == {} and {r["category_id"] for r in result.results} == {1}
    few = evaluate_model(
        model, [_batch(4, 8)], dataset, class_agnostic=True, max_detections=1
    ).metrics
    assert few["AR1"] == pytest.approx(2 / 3) and "AR100" not in few


def test_a_model_of_one_class_object_is_scored_by_its_boxes(backend: str) -> None:
    dataset = _dataset()
    answers = {
        i: Detections(found.boxes_xyxy, found.scores, np.zeros(len(found), np.int64), ("object",))
        for i, found in _answers(dataset, ("cat", "dog")).items()
    }
    model = Oracle(answers, ("object",), backend=backend)
    assert evaluate_model(model, [_batch(4, 8)], dataset).metrics["AR100"] == 1
    one = dataclasses.replace(dataset, class_names=("object",), category_ids=(17,))
    for entry in one.annotations:
        entry.labels[:] = 0
    result = evaluate_model(model, [_batch(4, 8)], one)
    assert tuple(result.metrics) == METRIC_NAMES and result.per_class["object"]["AP"] == 1


def test_data_of_lvis_are_scored_by_its_rules(backend: str) -> None:
    pytest.importorskip("lvis", reason="the package lvis is not installed")
    extra = {"neg_category_ids": [], "not_exhaustive_category_ids": []}
    plain = _dataset()
    dataset = dataclasses.replace(
        plain,
        images=[dataclasses.replace(record, extra=extra) for record in plain.images],
        categories=[
            {"id": 17, "name": "cat", "frequency": "f"},
            {"id": 3, "name": "dog", "frequency": "r"},
        ],
        metric="lvis",
    )
    answers = _answers(dataset, ("cat", "dog"))
    unsearched = np.array([[0, 0, 20, 20]], np.float32)
    answers[4] = Detections(
        np.concatenate([unsearched, answers[4].boxes_xyxy]),
        np.array([0.99, 0.9], np.float32),
        np.array([1, 0]),
        ("cat", "dog"),
    )
    model = Oracle(answers, ("cat", "dog"), backend=backend)
    result = evaluate_model(model, [_batch(4, 8)], dataset.select([0, 1]))
    assert tuple(result.metrics) == metric_names("lvis")
    for name in ("AP", "APr", "APf", "AR300"):
        assert result.metrics[name] == pytest.approx(1.0)
    assert evaluate_model(model, [_batch(4, 8)], plain).metrics["AP"] < 0.8
    assert default_limit("lvis", class_agnostic=False) == 300


def test_names_that_occur_twice_are_told_apart_by_order_alone() -> None:
    dataset = dataclasses.replace(
        _dataset(), class_names=("Mouse", "Mouse"), category_ids=(325, 449)
    )
    assert label_categories(("Mouse", "Mouse"), dataset) == [325, 449]
    with pytest.raises(UserError, match="'Mouse' twice"):
        label_categories(("Mouse", "Bench", "Mouse"), dataset)


@pytest.mark.parametrize(
    ("model", "data", "expected"),
    [
        (("a", "b"), ("a", "b"), [1, 2]),
        (("b", "a"), ("a", "b"), [2, 1]),
        (("a", "c", "b"), ("a", "b"), [1, None, 2]),
        (("hair drier", "b"), ("hair dryer", "b"), [1, 2]),
        (None, ("a", "b"), [1, 2]),
        (("b", "x"), ("a", "b"), "'b' at another place"),
        (("a", "b", "x"), ("x", "a", "y"), "'y', which cannot be told by its name"),
    ],
)
def test_names_decide_and_the_order_where_no_name_contradicts(
    model: tuple[str, ...] | None, data: tuple[str, ...], expected: Any
) -> None:
    ids = tuple(range(1, len(data) + 1))
    dataset = dataclasses.replace(_dataset(), class_names=data, category_ids=ids)
    if isinstance(expected, list):
        assert label_categories(model, dataset) == expected
        return
    with pytest.raises(UserError, match=expected):
        label_categories(model, dataset)
