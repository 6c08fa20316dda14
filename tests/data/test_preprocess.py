"""Preprocessing against what the peers make of the same pictures."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unidet.data import Preprocess, Sample
from unidet.data.preprocess import PRESETS, with_statistics
from unidet.data.resize import RULES, SIDE_RULES
from unidet.structures import Targets

PEERS = {
    "mmdet": "mmdet",
    "mmdet_caffe": "mmdet_caffe",
    "torchvision": "torchvision",
    "detectron2": "detectron2",
    "yhenon": "yhenon",
    "fb_detr": "detr",
    "transformers_pil": "detr",
    "transformers": "detr",
}
NONE = Targets(np.zeros((0, 4), np.float32), np.zeros(0, np.int64))


def photo(h: int, w: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (h, w, 3), np.uint8)


@pytest.fixture(scope="module")
def golden(sample_data: Path) -> Any:
    with np.load(sample_data / "golden/given/preprocessing/outputs.npz") as file:
        return {key: file[key] for key in file.files}


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("peer", PEERS)
def test_equals_the_peer(peer: str, number: int, golden: Any) -> None:
    preprocess = Preprocess.preset(PEERS[peer])
    image = golden[f"image{number}"]
    chw, size, scale = preprocess.apply(image)
    padded = preprocess.collate([Sample(chw, image.shape[:2], scale, NONE)]).images[0]

    def want(key: str) -> np.ndarray:
        return golden[f"{peer}/{number}/{key}"]

    assert size == tuple(want("valid_hw"))
    assert padded.shape == tuple(want("shape"))
    got = [padded.ravel()[:: int(want("step"))], chw[:, :6, :6], chw[:, -6:, -6:]]
    for mine, key in zip(got, ("sample", "top_left", "bottom_right"), strict=True):
        difference = np.abs(mine - want(key))
        if peer == "transformers":  # a library of its own, which rounds single grey levels apart
            assert difference.max() <= 1.001 / 255 / 0.224
            assert (difference > 1e-5).mean() < 0.02
        else:
            assert difference.max() <= 1e-5
    if peer.startswith("mmdet"):
        np.testing.assert_allclose(want("scale_factor")[:2], scale[::-1], rtol=1e-6)
    if peer == "yhenon":
        assert scale == (float(want("scale")),) * 2


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("shape", [(1, 1), (1, 60), (37, 2), (40, 40)])
def test_every_rule_takes_odd_shapes(rule: str, shape: tuple[int, int]) -> None:
    preprocess = Preprocess(
        resize=rule, min_size=16, max_size=24, size=(9, 11) if rule == "fixed" else None
    )
    chw, size, scale = preprocess.apply(photo(*shape))
    assert chw.shape == (3, *size) and chw.dtype == np.float32 and chw.flags.c_contiguous
    assert np.isfinite(chw).all() and min(size) >= 1
    if rule in SIDE_RULES:
        assert max(size) <= 24
    if rule != "yhenon":
        assert scale == (size[0] / shape[0], size[1] / shape[1])


@pytest.mark.parametrize("rule", sorted(set(RULES) - {"none"}))
def test_constant_pictures_stay_constant(rule: str) -> None:
    preprocess = Preprocess(
        resize=rule, min_size=20, max_size=50, size=(20, 30) if rule == "fixed" else None
    )
    chw, _, _ = preprocess.apply(np.full((33, 51, 3), 128, np.uint8))
    want = (128 / 255 - np.array(preprocess.mean)) / np.array(preprocess.std)
    np.testing.assert_allclose(chw, np.broadcast_to(want[:, None, None], chw.shape), atol=2e-6)


def test_channel_order_swaps_mean_too() -> None:
    image = photo(5, 7)
    rgb = Preprocess(resize="none").apply(image)[0]
    bgr = Preprocess(
        resize="none",
        channel_order="bgr",
        mean=Preprocess().mean[::-1],
        std=Preprocess().std[::-1],
    ).apply(image)[0]
    np.testing.assert_allclose(bgr, rgb[::-1], atol=1e-6)


def test_padding_is_at_the_bottom_and_right() -> None:
    preprocess = Preprocess(resize="none", pad_divisor=8)
    samples = []
    for h, w in ((5, 16), (9, 3)):
        chw, size, scale = preprocess.apply(photo(h, w))
        samples.append(Sample(chw, size, scale, NONE, image_id=h))
    batch = preprocess.collate(samples)
    assert batch.images.shape == (2, 3, 16, 16)
    assert batch.image_sizes == [(5, 16), (9, 3)] and batch.image_ids == [5, 9]
    np.testing.assert_array_equal(batch.images[1, :, :9, :3], samples[1].image)
    assert not batch.images[0, :, 5:].any() and not batch.images[1, :, :, 3:].any()


def test_extra_padding_for_exact_multiples() -> None:
    sizes = [(32, 33)]
    assert Preprocess(pad_extra=True).pad_size(sizes) == (64, 64)
    assert Preprocess().pad_size(sizes) == (32, 64)


def test_batch_of_bare_pictures() -> None:
    batch = Preprocess(resize="fixed", size=(32, 64)).batch([photo(20, 30), photo(64, 10)])
    assert batch.images.shape == (2, 3, 32, 64)
    assert batch.original_sizes == [(20, 30), (64, 10)]
    assert [len(t) for t in batch.targets] == [0, 0]


@pytest.mark.parametrize("name", PRESETS)
def test_json_round_trip(name: str) -> None:
    preprocess = Preprocess.preset(name, min_size=123)
    stored = json.loads(json.dumps(preprocess.to_dict()))
    assert Preprocess.from_dict(stored) == preprocess
    assert hash(Preprocess.from_dict(stored)) == hash(preprocess)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"min_siz": 3}, "Did you mean 'min_size'"),
        ({"resize": "torchvison"}, "Did you mean 'torchvision'"),
        ({"resize": "fixed"}, "size"),
        ({"size": [3, 4]}, "size"),
        ({"std": [1, 0, 1]}, "std"),
        ({"mean": [1, 0]}, "mean"),
        ({"pad_divisor": 0}, "pad_divisor"),
        ({"channel_order": "gbr"}, "channel_order"),
    ],
)
def test_bad_values(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Preprocess.from_dict(values)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_bad_pictures(image: np.ndarray) -> None:
    with pytest.raises(ValueError, match="image"):
        Preprocess().apply(image)


@pytest.mark.parametrize("name", ["clip", "imagenet"])
def test_other_statistics(name: str) -> None:
    wanted = Preprocess(**PRESETS["unidetector" if name == "clip" else "mmdet"])
    # Whatever the model's own scale and channel order are, the pixels come out alike.
    for scale, order in ((255.0, "rgb"), (1.0, "bgr")):
        own = Preprocess(scale=scale, channel_order=order, resize="none")
        image = np.random.default_rng(0).integers(0, 256, (4, 5, 3), np.uint8)
        found, _, _ = with_statistics(own, name).apply(image)
        expected, _, _ = dataclasses.replace(wanted, resize="none").apply(image)
        np.testing.assert_allclose(found[:: 1 if order == "rgb" else -1], expected, atol=1e-5)
