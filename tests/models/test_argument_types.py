"""Arguments of models come from YAML: a wrong type is named before a layer chokes on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from unidet.errors import UserError
from unidet.models import create_model
from unidet.models.arguments import describe, fits


@pytest.mark.parametrize(
    ("hint", "good", "bad"),
    [
        (int, [3, -1], [True, 3.0, "3", None, [3]]),
        (float, [3, 0.5], [True, "3", None]),
        (bool, [True], [1, "yes"]),
        (str | None, ["a", None], [1, ["a"]]),
        (tuple[int, ...], [[1, 2], (), (1,)], ["12", 1, [1.5], [[1]]]),
        (tuple[float, float], [[1, 2.5]], [[1], [1, 2, 3]]),
        (tuple[tuple[float, ...], ...], [[1, 2], [[1], [2, 3]]], ["big", {"a": 1}, [["a"]]]),
        (Mapping[str, Any], [{}], [3, [], "a"]),
    ],
)
def test_types(hint: Any, good: list[Any], bad: list[Any]) -> None:
    assert all(fits(value, hint) for value in good)
    assert not any(fits(value, hint) for value in bad)
    assert describe(hint)


@pytest.mark.parametrize("name", ["retinanet_r18_fpn", "faster_rcnn_r18_fpn"])
@pytest.mark.parametrize(
    ("argument", "value", "expected"),
    [
        ("num_classes", "six", "an integer"),
        ("fpn_channels", 3.5, "an integer"),
        ("anchor_sizes", "big", "a list of lists of numbers"),
        ("preprocess", 3, "a mapping"),
        ("norm_eval", "no", "true or false"),
    ],
)
def test_models_name_the_argument(
    backend: str, name: str, argument: str, value: Any, expected: str
) -> None:
    with pytest.raises(UserError, match=rf"`{argument}`. Expected {expected}.*Received {value!r}"):
        create_model(name, backend=backend, **{"num_classes": 2, argument: value})
