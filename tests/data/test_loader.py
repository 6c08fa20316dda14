"""Batches: order, resuming, sharding, workers, damaged files."""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unidet.data import DetectionDataset, Loader, Preprocess, load_coco
from unidet.data.order import plan_batches, take_part
from unidet.data.transforms import FirstEpochs, HorizontalFlip, RandomResize, RandomZoom
from unidet.errors import UserError
from unidet.structures import Batch

SMALL = Preprocess(resize="fixed", size=(32, 64))


def ids(batches: Iterable[Batch]) -> list[list[int]]:
    return [list(b.image_ids) for b in batches]


def flat(lists: Iterable[list[int]]) -> list[int]:
    return [i for part in lists for i in part]


def assert_same(left: list[Batch], right: list[Batch]) -> None:
    assert ids(left) == ids(right)
    for a, b in zip(left, right, strict=True):
        np.testing.assert_array_equal(a.images, b.images)
        for s, t in zip(a.targets, b.targets, strict=True):
            np.testing.assert_array_equal(s.boxes_xyxy, t.boxes_xyxy)


def make(scenes: DetectionDataset, **options: Any) -> Loader:
    options = {"shuffle": True, "seed": 3, "augmentations": [HorizontalFlip()], **options}
    return Loader(scenes, SMALL, 3, **options)


def test_each_image_once_and_boxes_in_input_pixels(scenes: DetectionDataset) -> None:
    loader = Loader(scenes, SMALL, 3)
    batches = list(loader)
    assert len(batches) == len(loader) == 4 and [len(b) for b in batches] == [3, 3, 3, 1]
    assert flat(ids(batches)) == [r.id for r in scenes.images]
    first = batches[0]
    assert first.images.shape == (3, 3, 32, 64) and first.original_sizes == [(96, 128)] * 3
    assert first.scales == [(32 / 96, 64 / 128)] * 3
    want = scenes.annotations[0].boxes_xyxy * [0.5, 1 / 3, 0.5, 1 / 3]
    np.testing.assert_allclose(first.targets[0].boxes_xyxy, want, rtol=1e-5)
    np.testing.assert_array_equal(first.targets[0].labels, scenes.annotations[0].labels)


def test_workers_change_nothing(scenes: DetectionDataset) -> None:
    alone, helped = make(scenes), make(scenes, num_workers=2, cache_images=True)
    for epoch in (0, 1):
        assert_same(list(alone.epoch(epoch)), list(helped.epoch(epoch)))


@pytest.mark.parametrize("workers", [0, 2])
def test_resume_is_exact(workers: int, scenes: DetectionDataset) -> None:
    whole = list(make(scenes).epoch(2))
    for step in range(5):
        rest = list(make(scenes, num_workers=workers).epoch(2, start_step=step))
        assert_same(rest, whole[step:])


def test_order_depends_on_seed_and_epoch(scenes: DetectionDataset) -> None:
    orders = [ids(make(scenes, seed=s).epoch(e)) for s, e in ((0, 0), (0, 1), (1, 0), (0, 0))]
    assert orders[0] == orders[3]
    assert orders[0] != orders[1] != orders[2] != orders[0]
    assert sorted(flat(orders[1])) == sorted(r.id for r in scenes.images)


def test_augmentation_differs_between_epochs(scenes: DetectionDataset) -> None:
    loader = make(scenes, shuffle=False)
    one, two = (np.concatenate([b.images for b in loader.epoch(e)]) for e in (0, 1))
    changed = (one != two).any(axis=(1, 2, 3))
    assert 0 < changed.sum() < len(changed)


def test_shards_share_out_the_epoch(scenes: DetectionDataset) -> None:
    whole = ids(make(scenes).epoch(1))
    shards = [make(scenes, shard=(i, 3)) for i in range(3)]
    assert [len(s) for s in shards] == [4, 4, 4]
    for batch, *parts in zip(whole, *(list(s.epoch(1)) for s in shards)):
        counted = [p for p in parts if not p.part.stands_in]
        assert [i for p in counted for i in p.image_ids] == batch
        assert [p.part.first for p in counted] == [0, *np.cumsum([len(p) for p in counted])[:-1]]
        assert {p.part.whole for p in parts} == {len(batch)}
    assert_same(list(make(scenes, shard=(1, 3)).epoch(1, 2)), list(shards[1].epoch(1))[2:])
    plain = [make(scenes, shuffle=False, shard=(i, 3)) for i in range(3)]
    assert [len(s) for s in plain] == [2, 1, 1]
    assert sorted(flat(flat(ids(s)) for s in plain)) == [r.id for r in scenes.images]
    assert list(make(scenes, shuffle=False, shard=(4, 5))) == []


def test_a_part_whose_images_cannot_be_read_is_stood_in_for(
    scenes: DetectionDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = ids(make(scenes).epoch(0))
    second = take_part(np.arange(len(whole[0])), (1, 3))[0]
    bad = {whole[0][i] for i in second}
    read = type(scenes).read

    def refuse(self: DetectionDataset, index: int) -> np.ndarray:
        if self.images[index].id in bad:
            raise UserError("Cannot read it.")
        return read(self, index)

    monkeypatch.setattr(type(scenes), "read", refuse)
    part = next(make(scenes, shard=(1, 3), on_bad="skip").epoch(0))
    assert part.part.stands_in and part.part.whole == len(whole[0])
    assert part.image_ids[0] in whole[0] and part.image_ids[0] not in bad


def test_aspect_ratio_groups() -> None:
    ratios = [1.5, 0.5, 1.0, 3.0, 2.0, 0.7, 0.6]
    options = {"seed": 0, "drop_last": False, "aspect_ratios": ratios}
    plans = [plan_batches(7, 3, epoch=e, shuffle=True, **options) for e in range(6)]
    sets = {tuple(b.tolist()) for plan in plans for b in plan}
    # Sorted by ratio: 1 6 5 | 2 0 4 | 3 and round to the beginning: 1 6.
    assert sets == {(1, 6, 5), (2, 0, 4), (3, 1, 6)}
    assert len({tuple(b[0] for b in plan) for plan in plans}) > 1
    options["drop_last"] = True
    assert len(plan_batches(7, 3, epoch=0, shuffle=False, **options)) == 2
    options["drop_last"] = False
    wide = plan_batches(7, 20, epoch=0, shuffle=False, **options)
    assert wide[0].tolist() == [1, 6, 5, 2, 0, 4, 3] * 2 + [1, 6, 5, 2, 0, 4]


def test_several_data_sets(scenes: DetectionDataset) -> None:
    other = scenes.select([0, 1])
    batches = list(Loader([scenes, other], SMALL, 4, shuffle=True, seed=1))
    sources = [d for b in batches for d in b.dataset_ids]
    assert sorted(sources) == [0] * 10 + [1] * 2
    assert any(len(set(b.dataset_ids)) == 2 for b in batches)


def test_drop_last_and_skip_empty(scenes: DetectionDataset) -> None:
    assert [len(b) for b in Loader(scenes, SMALL, 4, drop_last=True)] == [4, 4]
    bare = scenes.select(range(10))
    empty = type(bare.annotations[0]).build([], [])
    bare.annotations = [empty, *bare.annotations[1:]]
    assert sum(len(b) for b in Loader(bare, SMALL, 4, skip_empty=True)) == 9
    with pytest.raises(UserError, match="No full batch"):
        Loader(scenes, SMALL, 11, drop_last=True)


def test_random_resize_uses_the_rule_of_the_model(scenes: DetectionDataset) -> None:
    rule = Preprocess(resize="detr", min_size=48, max_size=200, pad_divisor=1)
    loader = Loader(scenes, rule, 1, augmentations=[RandomResize([24, 48])])
    batches = list(loader)
    assert {b.image_sizes[0] for b in batches} == {(24, 32), (48, 64)}
    for i, batch in enumerate(batches):
        exact, _, _ = rule.apply(scenes.read(i), min_size=batch.image_sizes[0][0])
        np.testing.assert_array_equal(batch.images[0], exact)
    with pytest.raises(ValueError, match="RandomResize"):
        Loader(scenes, SMALL, 1, augmentations=[RandomResize([24])])


@pytest.fixture
def damaged(scenes_dir: Path, tmp_path: Path) -> DetectionDataset:
    """The scenes with image 2 cut short and image 5 gone."""
    shutil.copytree(scenes_dir, tmp_path / "scenes")
    data = load_coco(tmp_path / "scenes/annotations.json", tmp_path / "scenes/images")
    cut = data.images[2].path
    cut.write_bytes(cut.read_bytes()[:900])
    data.images[5].path.unlink()
    return data


@pytest.mark.parametrize("workers", [0, 2])
def test_unreadable_images_are_named(workers: int, damaged: DetectionDataset) -> None:
    with pytest.raises(UserError, match=r"000002\.jpg"):
        list(Loader(damaged, SMALL, 2, num_workers=workers))


def test_unreadable_images_can_be_left_out(
    damaged: DetectionDataset, caplog: pytest.LogCaptureFixture
) -> None:
    loader = Loader(damaged, SMALL, 2, on_bad="skip")
    with caplog.at_level(logging.WARNING):
        seen = [flat(ids(loader.epoch(e))) for e in (0, 1)]
    assert seen == [[1, 2, 4, 5, 7, 8, 9, 10]] * 2
    assert [("000002" in r.message, "000005" in r.message) for r in caplog.records] == [
        (True, False),
        (False, True),
    ]


def test_batches_without_a_readable_image(damaged: DetectionDataset) -> None:
    alone = Loader(damaged, SMALL, 1, on_bad="skip")
    assert [b for [b] in ids(alone)] == [1, 2, 4, 5, 7, 8, 9, 10]
    training = Loader(damaged, SMALL, 1, on_bad="skip", shuffle=True)
    seen = [b for [b] in ids(training.epoch(0))]
    assert len(seen) == 10 and set(seen) == {1, 2, 4, 5, 7, 8, 9, 10}
    for record in damaged.images:
        record.path.unlink(missing_ok=True)
    with pytest.raises(UserError, match="No image"):
        next(Loader(damaged, SMALL, 3, on_bad="skip", shuffle=True).epoch(0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shard": (2, 2)}, "shard"),
        ({"on_bad": "no"}, "on_bad"),
        ({"num_workers": -1}, "num_workers"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str, scenes: DetectionDataset) -> None:
    with pytest.raises(ValueError, match=message):
        make(scenes, **options)
    with pytest.raises(ValueError, match="batch_size"):
        Loader(scenes, SMALL, 0)
    with pytest.raises(ValueError, match="start_step"):
        make(scenes).epoch(0, 5)
    with pytest.raises(UserError, match="No images"):
        Loader(scenes.select([]), SMALL, 2)


def test_cache_respects_its_limit(scenes: DetectionDataset) -> None:
    one = 96 * 128 * 3 / 1e9
    loader = Loader(scenes, SMALL, 5, cache_images=True, cache_gigabytes=3.5 * one)
    before = list(loader)
    assert len(loader._cache) == 3
    assert_same(before, list(loader))


def test_iterators_may_be_left_open_at_exit(scenes_dir: Path) -> None:
    code = (
        "import sys\n"
        "from unidet.data import *\n"
        f"d = load_coco(r'{scenes_dir}/annotations.json', r'{scenes_dir}/images')\n"
        "loader = Loader(d, Preprocess(resize='none'), 2, num_workers=2)\n"
        "kept = [loader.epoch(0), loader.epoch(1)]\n"
        "print([len(next(k)) for k in kept])\n"
        "print([m for m in ('torch', 'jittor', 'tensorflow', 'jax') if m in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "[2, 2]\n[]\n", "")


def test_closed_iterator_ends(scenes: DetectionDataset) -> None:
    with make(scenes, num_workers=2).epoch(0) as batches:
        next(batches)
    assert list(batches) == []
    batches.close()


def test_an_augmentation_rests_after_its_epochs(scenes: DetectionDataset) -> None:
    flip, zoom = HorizontalFlip(), RandomZoom()
    limited = make(scenes, augmentations=[flip, FirstEpochs(zoom, 2)])
    always, never = make(scenes, augmentations=[flip, zoom]), make(scenes, augmentations=[flip])
    for epoch, same, other in ((0, always, never), (1, always, never), (2, never, always)):
        found = list(limited.epoch(epoch))
        assert_same(found, list(same.epoch(epoch)))
        differ = [np.any(a.images != b.images) for a, b in zip(found, other.epoch(epoch))]
        assert any(differ)


def test_a_resize_rests_too(scenes: DetectionDataset) -> None:
    sides = Preprocess(resize="mmdet", min_size=48, max_size=96, pad_divisor=1)
    resize = FirstEpochs(RandomResize([24]), 1)
    loader = Loader(scenes, sides, 1, augmentations=[resize])
    shapes = [next(iter(loader.epoch(epoch))).image_sizes[0] for epoch in (0, 1)]
    assert [min(shape) for shape in shapes] == [24, 48]


def test_bad_number_of_epochs() -> None:
    with pytest.raises(ValueError, match="Invalid value for `epochs`"):
        FirstEpochs(HorizontalFlip(), 0)
