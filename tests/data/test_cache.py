"""Decoded pictures kept in memory: the same batches, read once, within the limit."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest

from unidet.config import from_mapping
from unidet.data import DetectionDataset, Loader, Preprocess
from unidet.data.transforms import HorizontalFlip, RandomZoom
from unidet.engine.setup import build_loader
from unidet.structures import Batch

SMALL = Preprocess(resize="fixed", size=(32, 64))
ONE = 96 * 128 * 3 / 1e9


def two_epochs(scenes: DetectionDataset, **options: float) -> list[Batch]:
    loader = Loader(
        scenes,
        SMALL,
        3,
        augmentations=[HorizontalFlip(), RandomZoom()],
        shuffle=True,
        seed=4,
        **options,  # type: ignore[arg-type]
    )
    return [batch for epoch in (0, 1) for batch in loader.epoch(epoch)]


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[int]:
    """How often each image was decoded."""
    counts: Counter[int] = Counter()
    read = DetectionDataset.read

    def count(self: DetectionDataset, i: int) -> np.ndarray:
        counts[i] += 1
        return read(self, i)

    monkeypatch.setattr(DetectionDataset, "read", count)
    return counts


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("kept", [10, 4])
def test_cache_and_workers_change_nothing(
    workers: int, kept: int, scenes: DetectionDataset, reads: Counter[int]
) -> None:
    plain = two_epochs(scenes)
    assert set(reads.values()) == {2}
    reads.clear()
    cached = two_epochs(
        scenes, num_workers=workers, cache_images=True, cache_gigabytes=(kept + 0.5) * ONE
    )
    assert sorted(reads.values()) == [1] * kept + [2] * (10 - kept)
    for one, other in zip(plain, cached, strict=True):
        assert one.image_ids == other.image_ids
        np.testing.assert_array_equal(one.images, other.images)
        for s, t in zip(one.targets, other.targets, strict=True):
            np.testing.assert_array_equal(s.boxes_xyxy, t.boxes_xyxy)
            np.testing.assert_array_equal(s.labels, t.labels)


@pytest.mark.parametrize("train", [True, False])
def test_keys_of_a_config_reach_the_loader(train: bool, scenes: DetectionDataset) -> None:
    keys = {
        "format": "scenes", "cache": True, "cache_gigabytes": 0.5, "num_workers": 1,
        "stall_seconds": 7, "stall_error_seconds": 70,
    }  # fmt: skip
    config = from_mapping({"model": {"name": "retinanet_r18_fpn"}, "data": keys})
    model = SimpleNamespace(preprocess=SMALL)
    loader = build_loader(config, [scenes], model, train=train, seed=0)
    assert loader._cache.limit_bytes == 500_000_000 and loader.num_workers == 1
    assert (loader.watch.warn_seconds, loader.watch.error_seconds) == (7, 70)
    keys["cache"] = False
    config = from_mapping({"model": {"name": "retinanet_r18_fpn"}, "data": keys})
    assert build_loader(config, [scenes], model, train=train, seed=0)._cache.limit_bytes == 0
