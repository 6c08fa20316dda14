"""CLIP as a model: what is left out of the text tower changes nothing; both frameworks agree."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.text.tiny import ARGUMENTS, SIZE, tiny_clip
from unidet.backends import nn, ops
from unidet.errors import UserError
from unidet.models import MODELS, create_model
from unidet.models.arguments import plain
from unidet.models.clip.text import TextLayout

START, END, CONTEXT = SIZE - 2, SIZE - 1, 77


def texts(*bodies: list[int]) -> np.ndarray:
    rows = np.zeros((len(bodies), CONTEXT), np.int32)
    for row, body in zip(rows, bodies):
        row[: len(body) + 2] = [START, *body, END]
    return rows


def everything(tokens: np.ndarray) -> TextLayout:
    """All positions of all texts, as the original computes them."""
    count = len(tokens)
    places = np.tile(np.arange(CONTEXT), count)
    ends = np.arange(count) * CONTEXT + tokens.argmax(axis=1)
    return TextLayout(tokens.reshape(-1), places, count, 0, CONTEXT, ends)


CASES = {
    "all start alike": texts([5, 6, 7, 9], [5, 6, 8], [5, 6, 8, 8, 8, 3]),
    "one is the start of another": texts([5, 6], [5, 6, 7, 8], [5]),
    "nothing but the first token": texts([4], [5, 6, 7]),
    "one text": texts([5, 6, 7]),
    "the same text": texts([5, 6], [5, 6]),
    "no words": texts([], []),
    "the whole context": texts(list(range(1, 76)), [1, 2]),
    "an end inside": texts([5, END, 7], [5, 6, 7]),
}


@pytest.mark.parametrize("case", CASES)
def test_left_out_positions_change_nothing(
    case: str, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_clip(backend)
    tokens = CASES[case]
    layout = TextLayout.of(tokens)
    assert len(layout.ids) == layout.common + len(tokens) * layout.own
    assert len(layout.ids) < tokens.size or case == "the whole context"
    with ops.no_grad():
        found = ops.to_numpy(model.encode_text(tokens))
        monkeypatch.setattr(TextLayout, "of", everything)
        expected = ops.to_numpy(model.encode_text(ops.asarray(tokens, backend=backend)))
    assert expected.shape == (len(tokens), ARGUMENTS["embed_dim"])
    np.testing.assert_allclose(found, expected, 1e-4, 1e-5 * np.abs(expected).max())


def test_the_layout_counts_common_positions() -> None:
    layout = TextLayout.of(CASES["all start alike"])
    assert (layout.common, layout.own) == (3, 5)
    assert layout.ids[:4].tolist() == [START, 5, 6, 7]
    assert layout.ids[layout.ends].tolist() == [END] * 3
    # The end of the shorter text is no common position, even where the longer one goes on alike.
    assert TextLayout.of(CASES["the same text"]).common == 3
    assert TextLayout.of(CASES["one text"]).common == 0


def test_no_text_sees_another(backend: str) -> None:
    model = tiny_clip(backend)
    tokens = CASES["all start alike"]
    with ops.no_grad():
        together = ops.to_numpy(model.encode_text(tokens))
        alone = [ops.to_numpy(model.encode_text(tokens[i : i + 1])) for i in range(3)]
    np.testing.assert_allclose(together, np.concatenate(alone), 1e-4, 1e-5)
    assert np.abs(together[0] - together[1]).max() > 0.1


def test_gradients_pass_common_positions(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_clip(backend)
    tokens = CASES["all start alike"]
    names = [n for n in nn.trainable(model) if not n.startswith(("visual.", "logit"))]

    def gradients() -> list[np.ndarray]:
        def loss(*_: Any) -> Any:
            return ops.sum(ops.square(model.encode_text(tokens)))

        _, found = ops.grad(loss, [nn.trainable(model)[name] for name in names])
        return [ops.to_numpy(gradient) for gradient in found]

    shared = gradients()
    monkeypatch.setattr(TextLayout, "of", everything)
    for name, one, other in zip(names, shared, gradients()):
        np.testing.assert_allclose(one, other, 1e-3, 1e-4 * np.abs(other).max(), err_msg=name)


def test_both_frameworks_give_the_same_logits(both: None) -> None:
    images = np.random.default_rng(0).standard_normal((2, 3, 64, 64)).astype(np.float32)
    tokens = CASES["all start alike"]
    logits = {}
    for backend in ("torch", "jittor"):
        model = tiny_clip(backend)
        with ops.no_grad():
            found = ops.to_numpy(model(ops.asarray(images, backend=backend), tokens)["logits"])
            image = ops.to_numpy(model.encode_image(ops.asarray(images, backend=backend)))
            text = ops.to_numpy(model.encode_text(tokens))
        units = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (image, text)]
        scale = np.exp(nn.state_arrays(model)["logit_scale"]).reshape(())
        np.testing.assert_allclose(found, scale * units[0] @ units[1].T, 1e-4, 1e-4)
        logits[backend] = found
    np.testing.assert_allclose(logits["torch"], logits["jittor"], 1e-4, 1e-4)


def test_fresh_weights_are_clips(backend: str) -> None:
    model = create_model("clip_rn50", backend=backend, seed=1, **ARGUMENTS)
    state = nn.state_arrays(model)
    assert float(state["logit_scale"].reshape(())) == pytest.approx(np.log(1 / 0.07))
    assert not state["visual.layer2.0.bn3.weight"].any()
    assert state["visual.layer2.0.bn2.weight"].all()
    assert state["token_embedding.weight"].std() == pytest.approx(0.02, rel=0.05)
    assert state["text_projection"].std() == pytest.approx(24**-0.5, rel=0.2)
    first = state["transformer.resblocks.0.mlp.c_fc.weight"]
    last = state["transformer.resblocks.0.mlp.c_proj.weight"]
    assert first.std() == pytest.approx(48**-0.5, rel=0.1)
    assert last.std() == pytest.approx(24**-0.5 * 4**-0.5, rel=0.1)


def test_names_stand_for_openais_sizes(backend: str) -> None:
    assert MODELS["clip_rn50"].defaults["embed_dim"] == 1024
    assert MODELS["clip_rn101"].defaults["embed_dim"] == 512
    assert MODELS["clip_rn101"].defaults["vision_layers"] == (3, 4, 23, 3)
    small = {key: value for key, value in ARGUMENTS.items() if key != "embed_dim"}
    config = create_model("clip_rn101", backend=backend, seed=None, **small).config
    assert config["name"] == "clip_rn101" and config["arguments"]["embed_dim"] == 512
    assert {key: config["arguments"][key] for key in small} == plain(small)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"transformer_heads": 5}, "`transformer_heads`. Expected a divisor of 24"),
        ({"image_resolution": 65}, "`image_resolution`. Expected a multiple of 32"),
        ({"vision_layers": (1, 1)}, "`vision_layers`. Expected four"),
        ({"embed_dim": "x"}, "`embed_dim`. Expected an integer"),
        ({"depth": 50}, "Invalid argument `depth`"),
    ],
)
def test_bad_arguments_are_refused(changes: dict[str, Any], text: str, backend: str) -> None:
    with pytest.raises((UserError, ValueError)) as caught:
        create_model("clip_rn50", backend=backend, seed=None, **{**ARGUMENTS, **changes})
    assert text in str(caught.value)


def test_bad_input_is_refused(backend: str) -> None:
    model = tiny_clip(backend)
    tokens = CASES["one text"]
    for wrong in (tokens[:, :76], tokens[0], tokens[:0], tokens + SIZE, tokens - 1):
        with pytest.raises(ValueError, match="Invalid value for `tokens`"):
            model.encode_text(wrong)
    images = ops.zeros((1, 3, 32, 64), backend=backend)
    with pytest.raises(ValueError, match=r"\(N, 3, 64, 64\). Received \(1, 3, 32, 64\)"):
        model.encode_image(images)
