"""Vocabularies of a detector: replaced, borrowed for a while, kept when weights are loaded."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models.steps import step
from tests.models.tiny_unidetector import (
    LENGTH,
    SIZES,
    STAGE2,
    answers,
    batch_of,
    several,
    targets,
    texts,
    tiny,
)
from unidet.backends import nn, ops
from unidet.checkpoints.native import load_checkpoint, save_checkpoint
from unidet.models import create_model

NAMES = ("cat", "traffic cone")


def logits_of(model: Any) -> np.ndarray:
    return ops.to_numpy(answers(model, batch_of())["cls_logits"])


@pytest.mark.parametrize("before", ["one", "several"])
def test_a_new_vocabulary(backend: str, before: str) -> None:
    prior = {"beta": 0.5, "gamma": 0.5, "class_prior": (1, 2, 3)}
    model = tiny(STAGE2, backend, num_classes=3, **prior) if before == "one" else several(backend)
    weights = {k: v for k, v in nn.state_arrays(model).items() if "text_embeddings" not in k}
    (rows,) = texts(2, seed=4)
    model.set_vocabulary(NAMES, rows * 7)  # of any norm
    assert (model.class_names, model.sizes, model.settings.num_classes) == (NAMES, (2,), 2)
    assert model.settings.gamma is model.settings.class_prior is None  # they counted other classes
    assert model.kept_tensors == ("head.text_embeddings",)
    arrays = nn.state_arrays(model)
    np.testing.assert_array_equal(
        arrays["head.text_embeddings"], np.pad(rows * 7, ((0, 1), (0, 0))).T
    )
    assert [k for k in arrays if "text_embeddings" in k] == ["head.text_embeddings"]
    assert all(np.array_equal(arrays[k], v) for k, v in weights.items())
    batch = batch_of()
    found = model.predict(answers(model, batch), batch)
    assert all(len(one) and one.labels.max() < 2 and one.class_names == NAMES for one in found)
    # The same as a model that was made for these classes.
    config = model.config
    fresh = create_model(config["name"], backend=backend, seed=None, **config["arguments"])
    nn.load_arrays(fresh, arrays)
    np.testing.assert_allclose(logits_of(model), logits_of(fresh), atol=1e-4)
    goals = [targets((4, 6, 30, 40, 1)), targets()]
    losses, _, _ = step(model, batch_of(ids=(0, 1), targets=goals))
    assert all(value > 0 for value in losses.values())


def test_a_copy_has_the_new_vocabulary(backend: str) -> None:
    model = several(backend)
    model.set_vocabulary(NAMES, texts(2, seed=4)[0])
    for again in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert again.class_names == NAMES and again.config == model.config
        np.testing.assert_allclose(logits_of(again), logits_of(model), atol=1e-4)


def test_a_borrowed_vocabulary(backend: str) -> None:
    model = several(backend, class_names=("a", "b", "c"), score_threshold=0.0)
    before, arrays, config = logits_of(model), nn.state_arrays(model), model.config
    (rows,) = texts(2, seed=4)
    with model.using_vocabulary(NAMES, rows):
        inside = logits_of(model)
        assert inside.shape == (40, 3) and model.class_names == NAMES
        batch = batch_of()
        found = model.predict(answers(model, batch), batch)[0]
        assert len(found) and found.labels.max() < 2 and found.class_names == NAMES
        with model.using_vocabulary(("one",), rows[1:]):
            np.testing.assert_allclose(logits_of(model)[:, 0], inside[:, 1], atol=1e-4)
        np.testing.assert_allclose(logits_of(model), inside, atol=1e-4)
        assert all(np.array_equal(v, arrays[k]) for k, v in nn.state_arrays(model).items())
    assert model.config == config and model.class_names == ("a", "b", "c")
    np.testing.assert_allclose(logits_of(model), before, atol=1e-4)
    with pytest.raises(RuntimeError, match="inside"), model.using_vocabulary(NAMES, rows):
        raise RuntimeError("inside")
    assert model.config == config
    same = create_model(STAGE2, backend=backend, seed=None, **config["arguments"])
    nn.load_arrays(same, arrays)
    same.set_vocabulary(NAMES, rows)
    np.testing.assert_allclose(logits_of(same), inside, atol=1e-4)


def test_a_class_prior_holds_for_its_own_classes(backend: str) -> None:
    prior = {"num_classes": 2, "class_names": NAMES, "gamma": 0.5, "class_prior": (4, 1)}
    model = tiny(STAGE2, backend, **prior)
    (rows,) = texts(2, seed=4)
    with model.using_vocabulary(NAMES, rows):
        assert (model.settings.gamma, model.settings.class_prior) == (0.5, (4, 1))
    with model.using_vocabulary(("dog", "bus"), rows):
        assert model.settings.gamma is model.settings.class_prior is None
    assert (model.settings.gamma, model.settings.class_prior) == (0.5, (4, 1))


BAD: dict[str, tuple[tuple[str, ...], Any, str]] = {
    "too few": (NAMES, texts(1)[0], r"`embeddings`.*\(2, 32\).*\(1, 32\)"),
    "too long": (NAMES, np.ones((2, LENGTH + 1)), r"`embeddings`.*\(2, 32\).*\(2, 33\)"),
    "flat": (NAMES, np.ones(LENGTH), r"`embeddings`.*\(2, 32\)"),
    "none": ((), np.ones((0, LENGTH)), r"`embeddings`.*\(0, 32\)"),
    "NaN": (NAMES, np.full((2, LENGTH), np.nan), "`embeddings`.*finite.*NaN"),
    "twice": (("cat", "cat"), texts(2)[0], "`class_names`.*once.*'cat' twice"),
}


@pytest.mark.parametrize("case", BAD)
def test_vocabularies_that_do_not_fit(backend: str, case: str) -> None:
    names, rows, message = BAD[case]
    model = several(backend)
    arrays, config = nn.state_arrays(model), model.config
    with pytest.raises(ValueError, match=message):
        model.set_vocabulary(names, rows)
    if case != "twice":  # data sets name classes as they like
        with pytest.raises(ValueError, match=message):
            model.using_vocabulary(names, rows)
    assert model.config == config
    assert all(np.array_equal(v, arrays[k]) for k, v in nn.state_arrays(model).items())


def test_training_vocabularies_must_be_those_of_the_model(backend: str) -> None:
    model = several(backend)
    for wrong in (texts(*SIZES[:1]), texts(*SIZES, 2)):
        with pytest.raises(ValueError, match=r"`embeddings`.*2 arrays"):
            model.set_training_vocabularies(wrong)
    with pytest.raises(ValueError, match=r"`embeddings`.*\(3, 32\).*\(7, 32\)"):
        model.set_training_vocabularies(texts(*SIZES[::-1]))
    assert model.kept_tensors == ("head.text_embeddings_0", "head.text_embeddings_1")


def test_a_checkpoint_keeps_every_vocabulary(backend: str, tmp_path: Path) -> None:
    model = several(backend, class_names=("a", "b", "c"))
    save_checkpoint(tmp_path / "model.safetensors", model)
    content = load_checkpoint(tmp_path / "model.safetensors")
    for index, rows in enumerate(texts(*SIZES)):
        stored = content.arrays[f"head.text_embeddings_{index}"]
        np.testing.assert_array_equal(stored[:, :-1], rows.T)
    config = content.model
    again = create_model(config["name"], backend=backend, seed=None, **config["arguments"])
    nn.load_arrays(again, content.arrays)
    np.testing.assert_allclose(logits_of(again), logits_of(model), atol=1e-4)
