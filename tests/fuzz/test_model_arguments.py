"""Strange arguments of every model: accepted, or refused in one line, before a network is made."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import strategies as st

from tests.fuzz.harness import bounded, fuzz
from tests.fuzz.mutations import STRANGE
from unidet.models import create_model
from unidet.models.factory import MODELS, check_arguments, create_from

ONE_OF_EACH = tuple({spec.constructor: name for name, spec in MODELS.items()}.values())


@st.composite
def _call(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    name = draw(st.sampled_from(ONE_OF_EACH))
    keys = (*MODELS[name].accepts, "num_classes", "backend", "")
    chosen = draw(st.lists(st.sampled_from(keys), min_size=1, max_size=3, unique=True))
    return name, {key: copy.deepcopy(draw(st.sampled_from(STRANGE))) for key in chosen}


@fuzz(_call())
def test_arguments(case: tuple[str, dict[str, Any]]) -> None:
    with bounded(ValueError):
        check_arguments(*case)


@pytest.mark.parametrize("name", ["retinanet_r18_fpn", "detr_r18", "resnet18"])
@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0, "1 or more"), (-1, "1 or more"), (2.5, "an integer"), ("3", "an integer"),
        (True, "an integer"), (10**12, "memory"), (10**30, "64 bits"),
    ],
)  # fmt: skip
def test_numbers_of_classes(name: str, value: Any, words: str, backend: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        create_model(name, backend=backend, seed=None, num_classes=value)
    assert "\n" not in str(caught.value)


def test_names_that_are_no_arguments() -> None:
    with pytest.raises(ValueError, match="Invalid argument `backend`"):
        create_from("resnet18", {"backend": "jittor"})
