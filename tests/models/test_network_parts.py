"""Backbone, pyramid and head on their own."""

from __future__ import annotations

import numpy as np
import pytest

from unidet.backends import nn, ops, use
from unidet.models.layers.fpn import FPN
from unidet.models.layers.resnet import ResNet
from unidet.models.retinanet.head import RetinaNetHead


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("depth", [18, 50])
def test_stages_of_a_resnet(backend: str, depth: int) -> None:
    model = ResNet(depth, backend=backend).eval()
    expansion = 1 if depth == 18 else 4
    assert model.channels == tuple(c * expansion for c in (64, 128, 256, 512))
    with ops.no_grad():
        stages = model(ops.asarray(noise(1, 3, 64, 96), backend=backend))
    for stage, channels, stride in zip(stages, model.channels, (4, 8, 16, 32)):
        assert ops.shape(stage) == (1, channels, 64 // stride, 96 // stride)


def test_where_a_bottleneck_strides(backend: str) -> None:
    x = ops.asarray(noise(1, 3, 64, 64), backend=backend)
    answers = []
    for first in (False, True):
        model = ResNet(50, stride_in_1x1=first, backend=backend).eval()
        block = model.layer2[0]
        strides = [max(tuple(conv.stride)) for conv in (block.conv1, block.conv2)]
        assert strides == ([2, 1] if first else [1, 2])
        with ops.no_grad():
            answers.append(ops.to_numpy(model(x)[-1]))
    # The same weights under the same names, and another function.
    assert answers[0].shape == answers[1].shape
    assert not np.allclose(answers[0], answers[1], rtol=0.1)


def test_mode_survives_a_round_trip(backend: str) -> None:
    model = ResNet(18, norm_eval=True, backend=backend)
    model.eval()
    model.train()
    norms = [m for _, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == 20 and not any(norm.training for norm in norms)
    assert model.training and model.layer1.training
    assert len(nn.trainable(model)) == len(nn.parameters(model))


def levels_of(backend: str, sides: tuple[int, int], **settings: object) -> tuple[object, list]:
    with use(backend):
        neck = FPN((8, 16, 32), 12, **settings)
        shapes = [
            (1, c, -(-sides[0] // s), -(-sides[1] // s)) for c, s in ((8, 8), (16, 16), (32, 32))
        ]
        features = [ops.asarray(noise(*shape)) for shape in shapes]
        with ops.no_grad():
            return neck, [ops.to_numpy(level) for level in neck(features)]


def test_pyramid_shapes_and_exact_upsampling(backend: str) -> None:
    _, levels = levels_of(backend, (72, 104), upsample="size")
    assert [level.shape[2:] for level in levels] == [(9, 13), (5, 7), (3, 4), (2, 2), (1, 1)]
    _, doubled = levels_of(backend, (64, 96), upsample="factor2")
    _, exact = levels_of(backend, (64, 96), upsample="size")
    for a, b in zip(doubled, exact):
        np.testing.assert_array_equal(a, b)


def test_where_the_coarse_levels_come_from(backend: str) -> None:
    for source, channels in (("c5", 32), ("p5", 12)):
        neck, _ = levels_of(backend, (64, 96), extra_source=source)
        assert tuple(neck.extra[0].weight.shape) == (12, channels, 3, 3)
    _, with_relu = levels_of(backend, (64, 96), extra_relu=True)
    _, without = levels_of(backend, (64, 96), extra_relu=False)
    np.testing.assert_array_equal(with_relu[3], without[3])
    assert (with_relu[3] < 0).any() and not np.allclose(with_relu[4], without[4])


@pytest.mark.parametrize(
    "settings", [{"extra_source": "c4"}, {"upsample": "bilinear"}], ids=lambda s: next(iter(s))
)
def test_unknown_pyramids(backend: str, settings: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        FPN((8, 16, 32), backend=backend, **settings)


def test_head_orders_channels_by_anchor(backend: str) -> None:
    """A network of biases shows which channel becomes which answer."""
    head = RetinaNetHead(4, 3, 2, channels=8, depth=0, backend=backend)
    arrays = {name: np.zeros_like(value) for name, value in nn.state_arrays(head).items()}
    arrays["cls_out.bias"] = np.arange(6, dtype=np.float32)
    arrays["box_out.bias"] = np.arange(12, dtype=np.float32)
    nn.load_arrays(head, arrays)
    levels = [ops.asarray(noise(2, 4, h, w), backend=backend) for h, w in ((2, 3), (1, 2))]
    logits, deltas = (ops.to_numpy(x) for x in head(levels))
    assert logits.shape == (2, 24, 2) and deltas.shape == (2, 24, 4)
    assert np.array_equal(logits.reshape(2, 8, 6), np.broadcast_to(np.arange(6), (2, 8, 6)))
    assert np.array_equal(deltas.reshape(2, 8, 12), np.broadcast_to(np.arange(12), (2, 8, 12)))


def test_head_goes_through_a_level_row_by_row(backend: str) -> None:
    head = RetinaNetHead(1, 1, 1, channels=8, depth=0, backend=backend)
    arrays = {name: np.zeros_like(value) for name, value in nn.state_arrays(head).items()}
    arrays["cls_out.weight"][0, 0, 1, 1] = 1
    nn.load_arrays(head, arrays)
    level = np.arange(6, dtype=np.float32).reshape(1, 1, 2, 3)
    logits, _ = head([ops.asarray(level, backend=backend)])
    assert ops.to_numpy(logits)[0, :, 0].tolist() == [0, 1, 2, 3, 4, 5]


def test_group_norm_towers_have_no_bias(backend: str) -> None:
    head = RetinaNetHead(4, 3, 2, channels=8, depth=2, norm="group", groups=4, backend=backend)
    names = set(nn.parameters(head))
    assert {"cls_tower.1.conv.weight", "cls_tower.1.norm.bias", "box_tower.0.norm.weight"} <= names
    assert "cls_tower.1.conv.bias" not in names and "box_out.bias" in names
