"""Vectors of names: what is averaged, in which batches, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.text.tiny import tiny_clip, write_vocabulary
from unidet.backends import ops
from unidet.errors import UserError
from unidet.text import TEMPLATES, Embedder, EmbeddingOptions, Tokenizer, embed_names

NAMES = ("cat", "traffic light", "stop_sign", "Cat", "a+b", "the tooth photo", "x")


@pytest.fixture
def tokenizer(tmp_path: Path) -> Tokenizer:
    return Tokenizer(write_vocabulary(tmp_path))


def by_hand(model: Any, tokenizer: Tokenizer, name: str, templates: Any, unit: bool) -> np.ndarray:
    """Features of one sentence after the other."""
    rows = []
    for template in templates:
        tokens = tokenizer([template.format(name.replace("+", " "))])
        with ops.no_grad():
            feature = ops.to_numpy(model.encode_text(tokens))[0].astype(np.float64)
        rows.append(feature / np.linalg.norm(feature) if unit else feature)
    return np.mean(rows, axis=0)


@pytest.mark.parametrize("normalise", ["none", "features", "mean", "both"])
def test_a_vector_is_the_mean_over_sentences(
    backend: str, tokenizer: Tokenizer, normalise: str
) -> None:
    model = tiny_clip(backend)
    templates = TEMPLATES["unidetector"][:6]
    options = EmbeddingOptions(templates, normalise=normalise, batch_size=3)
    found = embed_names(model, NAMES, tokenizer=tokenizer, options=options)
    unit = normalise in ("features", "both")
    expected = np.stack([by_hand(model, tokenizer, n, templates, unit) for n in NAMES])
    if normalise in ("mean", "both"):
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert found.dtype == np.float32 and found.shape == (len(NAMES), 12)
    np.testing.assert_allclose(found, expected, 1e-4, 1e-5)
    # "cat" and "Cat" are one text, so one vector bit for bit.
    np.testing.assert_array_equal(found[0], found[3])
    assert np.abs(found[0] - found[1]).max() > 1e-2


def test_sentences_are_counted_and_computed_once(tokenizer: Tokenizer, backend: str) -> None:
    model = tiny_clip(backend)
    options = EmbeddingOptions(("a {}", "the {} there"), batch_size=4)
    embedder = Embedder(model, tokenizer, NAMES, options)
    assert embedder.total == 2 * (len(NAMES) - 1)
    sums = embedder.start()
    assert list(embedder.add_batches(sums)) == [4, 6, 10, 12]
    assert sums.batches == 4 and list(embedder.add_batches(sums)) == []
    told: list[tuple[int, int]] = []
    embed_names(
        model,
        NAMES,
        tokenizer=tokenizer,
        options=options,
        progress=lambda *now: told.append(now),
    )
    assert told == [(4, 12), (6, 12), (10, 12), (12, 12)]


def test_batches_hold_texts_of_similar_length(tokenizer: Tokenizer, backend: str) -> None:
    names = tuple("a" * length for length in (9, 2, 5, 30, 3, 2))
    embedder = Embedder(tiny_clip(backend), tokenizer, names, EmbeddingOptions(("{}",)))
    (sentences,) = embedder._templates
    lengths = (sentences.tokens != 0).sum(axis=1).tolist()
    # Marks of start and end; 'aa' stands there once though two names are 'aa'.
    assert lengths == [2 + n for n in (2, 3, 5, 9, 30)]
    assert sentences.of_name.tolist() == [3, 0, 2, 4, 1, 0]


def test_going_on_equals_going_through(tokenizer: Tokenizer, backend: str) -> None:
    model = tiny_clip(backend)
    options = EmbeddingOptions(TEMPLATES["unidetector"][:5], batch_size=2)
    whole = embed_names(model, NAMES, tokenizer=tokenizer, options=options)
    first = Embedder(model, tokenizer, NAMES, options)
    sums = first.start()
    for _ in first.add_batches(sums):
        if sums.batches == 7:
            break
    second = Embedder(model, tokenizer, NAMES, options)
    list(second.add_batches(sums))
    np.testing.assert_array_equal(second.vectors(sums), whole)


def test_bad_options_are_refused() -> None:
    for changes, text in (
        ({"normalise": "feature"}, "Did you mean 'features'"),
        ({"clean": "oficial"}, "Did you mean 'official'"),
        ({"batch_size": 0}, "`batch_size`"),
        ({"templates": ()}, "Received none"),
        ({"templates": ("a photo",)}, "without {}"),
    ):
        with pytest.raises(UserError) as caught:
            EmbeddingOptions(**changes)  # type: ignore[arg-type]
        assert text in str(caught.value)


def test_bad_names_are_refused(tokenizer: Tokenizer, backend: str) -> None:
    model = tiny_clip(backend)
    with pytest.raises(UserError, match="at least one"):
        embed_names(model, (), tokenizer=tokenizer)
    with pytest.raises(UserError, match="Expected at most 75 tokens"):
        embed_names(model, ("cat", "q" * 90), tokenizer=tokenizer)
    with pytest.raises(UserError, match="Invalid class name ','"):
        embed_names(model, ("cat", ","), tokenizer=tokenizer)


def test_another_tokenizer_is_refused(tmp_path: Path, backend: str) -> None:
    path = tmp_path / "m.txt"
    path.write_text("title\na b\n")
    with pytest.raises(UserError, match=r"Expected 521 tokens .* Received 515"):
        embed_names(tiny_clip(backend), NAMES, tokenizer=Tokenizer(path))


def test_features_that_are_not_finite_are_refused(tokenizer: Tokenizer, backend: str) -> None:
    from unidet.backends import nn

    model = tiny_clip(backend)
    broken = np.full((24, 12), np.nan, np.float32)
    nn.load_arrays(model, {"text_projection": broken}, strict=False)
    with pytest.raises(UserError, match=r"Cannot embed 'cat' .* not finite"):
        embed_names(model, NAMES, tokenizer=tokenizer, options=EmbeddingOptions(("{}",)))
