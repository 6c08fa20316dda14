"""Which classes enter the class loss: drawn on the host, each data set by itself."""

from __future__ import annotations

import numpy as np
import pytest

from unidet.backends import random
from unidet.models.boxes.coder import BoxCoder
from unidet.models.boxes.matcher import Matcher
from unidet.models.boxes.samplers import RandomSampler
from unidet.models.boxes.targets import PAD
from unidet.models.faster_rcnn.config import FasterRCNNConfig
from unidet.models.faster_rcnn.targets import ClassLayout, RoITargets, class_rows, roi_targets
from unidet.models.unidetector.federated import (
    ClassTargets,
    OpenTargets,
    class_targets,
    draw_classes,
)
from unidet.structures import Targets

BACKGROUND = 9


def goals(images: list[int], classes: list[int]) -> RoITargets:
    """Sampled proposals of which only images and classes matter."""
    count = len(images)
    made = roi_targets(
        [np.zeros((0, 4), np.float32)],
        [Targets(np.zeros((0, 4), np.float32), np.zeros(0, np.int64))],
        matcher=Matcher(0.5, 0.5),
        sampler=RandomSampler(4, 0.5),
        coder=BoxCoder(),
        rows=ClassLayout(BACKGROUND, 0, 0, 1),
        add_ground_truth=False,
    )
    return RoITargets(
        rois=np.tile(np.array([[0, 0, 8, 8]], np.float32), (count, 1)),
        images=np.array(images),
        classes=np.array(classes),
        weights=np.full(count, 1 / count, np.float32),
        boxes=made.boxes,
    )


def chosen(group: ClassTargets) -> list[int]:
    """Classes that are asked, without the padding and the background."""
    return group.columns[group.weights[0] > 0].tolist()


# --- the draw -----------------------------------------------------------------------------------


def test_a_draw_fills_up_to_the_wanted_number() -> None:
    present = np.array([2, 5, 20])  # the background, 20, is present
    for step in range(50):
        found = draw_classes(present, 20, 8, None, random.stream(0, step))
        assert len(found) == 5 == len(np.unique(found))
        assert not np.isin(found, present).any()
        assert found.min() >= 0 and found.max() < 20
    assert not len(draw_classes(present, 20, 3, None, random.stream(0)))
    assert not len(draw_classes(present, 20, 0, None, random.stream(0)))


def test_classes_without_images_are_never_drawn() -> None:
    counts = np.array([0, 3, 0, 1, 7, 0, 2, 0])
    seen = [draw_classes(np.array([4]), 8, 4, counts, random.stream(0, step)) for step in range(99)]
    assert set(np.concatenate(seen)) == {1, 3, 6, 8}
    assert {len(found) for found in seen} == {3}


@pytest.mark.parametrize("wanted", [5, 50, 1000])
def test_a_small_vocabulary_is_taken_whole(wanted: int) -> None:
    found = draw_classes(np.array([1, 4]), 4, wanted, None, random.stream(0))
    assert sorted(found) == [0, 2, 3]
    counts = np.array([0, 9, 0, 1])
    assert sorted(draw_classes(np.array([1, 4]), 4, wanted, counts, random.stream(0))) == [3]


@pytest.mark.parametrize("counts", [None, np.array([1, 900, 5, 0, 30, 2, 2, 800, 1, 4, 6, 0])])
def test_every_class_has_the_same_chance(counts: np.ndarray | None) -> None:
    """Frequent ones too. Chi-square of 2,000 draws of 4 out of the pool."""
    size, rounds = 12, 2000
    present = np.array([1, 7])
    seen = np.zeros(size + 1)
    for step in range(rounds):
        seen[draw_classes(present, size, 6, counts, random.stream(3, step))] += 1
    known = np.append(np.ones(size, bool) if counts is None else counts > 0, True)
    known[present] = False
    pool = int(known.sum())
    share = 4 / pool
    assert not seen[~known].any()
    spread = rounds * share * (1 - share) * pool / (pool - 1)  # the draws of a round exclude others
    statistic = float(((seen[known] - rounds * share) ** 2).sum() / spread)
    assert statistic < {11: 30, 9: 27}[pool]  # exceeded once in a thousand times by chance
    assert statistic > 0.5


def test_a_draw_belongs_to_its_step_and_image() -> None:
    def draw(step: int, image: int) -> list[int]:
        rows = goals([0] * 2 + [1] * 2, [3, BACKGROUND] * 2)
        with random.at(5, "step", step):
            found = class_targets(
                rows, (200, 200), [0, 1], background=BACKGROUND, wanted=10,
                counts=(None, None), by_image=True,
            )  # fmt: skip
        return chosen(found.groups[image])

    assert draw(1, 0) == draw(1, 0)
    assert len({tuple(draw(step, image)) for step in range(4) for image in range(2)}) == 8


# --- goals by hand ------------------------------------------------------------------------------


def of_one_vocabulary(weight: float = 1.0) -> OpenTargets:
    rows = goals([0, 0, 1], [4, BACKGROUND, 2])
    return class_targets(
        rows, (9,), [0, 0], background=BACKGROUND, wanted=0, counts=(None,), by_image=False,
        weight=weight,
    )  # fmt: skip


def test_one_vocabulary_by_hand() -> None:
    """Rows share the classes of the whole batch; the sum is divided by the number of rows."""
    (group,) = of_one_vocabulary().groups
    assert (group.vocabulary, group.start, group.stop) == (0, 0, 3)
    assert group.columns[:3].tolist() == [2, 4, 9] and len(group.columns) == PAD
    assert group.wanted[:, :3].tolist() == [[0, 1, 0], [0, 0, 0], [1, 0, 0]]
    np.testing.assert_allclose(group.weights[0, :3], [1 / 3, 1 / 3, 0])  # the background weighs 0
    assert not group.weights[0, 3:].any() and not group.wanted[:, 3:].any()
    (heavy,) = of_one_vocabulary(5.0).groups
    np.testing.assert_allclose(heavy.weights, group.weights * 5)


def test_several_vocabularies_by_hand() -> None:
    """Every image has its own classes and mean; the loss is the mean over images."""
    rows = goals([0, 0, 0, 1, 2, 2], [1, BACKGROUND, 1, BACKGROUND, 6, 0])
    found = class_targets(
        rows, (2, 8, 3), [0, 2, 1], background=BACKGROUND, wanted=0, counts=(None,) * 3,
        by_image=True,
    )  # fmt: skip
    first, second, third = found.groups
    assert [(g.vocabulary, g.start, g.stop) for g in found.groups] == [
        (0, 0, 3),
        (2, 3, 4),
        (1, 4, 6),
    ]
    assert chosen(first) == [1] and first.wanted[:, 0].tolist() == [1, 0, 1]
    np.testing.assert_allclose(first.weights[0, :2], [1 / 3 / 3, 0])
    assert chosen(second) == [] and not second.wanted.any()  # nothing but background
    assert chosen(third) == [0, 6] and third.wanted[:, :2].tolist() == [[0, 1], [1, 0]]
    np.testing.assert_allclose(third.weights[0, :2], [1 / 2 / 3] * 2)
    for name in RoITargets.__dataclass_fields__:
        assert getattr(found, name) is getattr(rows, name)


def test_the_same_number_means_another_class_in_each_data_set() -> None:
    """The background has the number of the largest vocabulary plus one, everywhere."""
    rows = goals([0, 0, 1, 1], [1, 3, 1, 3])
    found = class_targets(
        rows, (2, 3), [0, 1], background=3, wanted=0, counts=(None, None), by_image=True
    )
    assert [chosen(group) for group in found.groups] == [[1], [1]]
    assert [group.columns[1] for group in found.groups] == [2, 3]  # each one's own background


def test_an_image_without_rows_leaves_its_share_empty() -> None:
    rows = goals([1, 1], [0, BACKGROUND])
    found = class_targets(
        rows, (2, 4), [0, 1], background=BACKGROUND, wanted=0, counts=(None, None), by_image=True
    )
    (group,) = found.groups
    assert (group.vocabulary, group.start, group.stop) == (1, 0, 2)
    assert group.weights[0, 0] == np.float32(1 / 2 / 2)


@pytest.mark.parametrize("by_image", [False, True])
def test_a_batch_without_any_proposal_weighs_nothing(by_image: bool) -> None:
    c = FasterRCNNConfig(depth=18, num_classes=BACKGROUND, background="last", class_agnostic=True)
    rows = roi_targets(
        [np.zeros((0, 4), np.float32)] * 2,
        [Targets(np.zeros((0, 4), np.float32), np.zeros(0, np.int64))] * 2,
        matcher=Matcher(0.5, 0.5),
        sampler=RandomSampler(4, 0.5),
        coder=BoxCoder(),
        rows=class_rows(c),
        add_ground_truth=True,
    )
    found = class_targets(
        rows, (BACKGROUND,) * 2, [0, 1], background=BACKGROUND, wanted=5, counts=(None, None),
        by_image=by_image,
    )  # fmt: skip
    assert sum(len(group.wanted) for group in found.groups) == 1
    assert not any(group.weights.any() or group.wanted.any() for group in found.groups)


# --- heterogeneous data -------------------------------------------------------------------------


def test_no_label_of_one_data_set_is_a_negative_of_another() -> None:
    """Whatever is drawn, rows are asked about classes of their own image's data set alone."""
    sizes = (3, 20, 80)
    rng = np.random.default_rng(0)
    counts = (None, rng.integers(0, 3, 20), rng.integers(0, 9, 80))
    for step in range(40):
        dataset_ids = rng.permutation(3).tolist()
        images = np.sort(rng.integers(0, 3, 30))
        largest = np.array([sizes[dataset_ids[i]] for i in images])
        classes = np.where(rng.random(30) < 0.5, rng.integers(0, largest), 80)
        with random.at(1, "step", step):
            found = class_targets(
                goals(images.tolist(), classes.tolist()), sizes, dataset_ids, background=80,
                wanted=50, counts=counts, by_image=True,
            )  # fmt: skip
        covered = np.concatenate([np.arange(g.start, g.stop) for g in found.groups])
        assert covered.tolist() == list(range(30))
        for group in found.groups:
            (image,) = set(images[group.start : group.stop].tolist())
            assert group.vocabulary == dataset_ids[image]
            assert len(group.wanted) == group.stop - group.start
            asked = chosen(group)
            assert len(asked) == len(set(asked)) and max(asked) < sizes[group.vocabulary]
            own = classes[group.start : group.stop]
            present = np.unique(own[own < 80])
            assert set(present) <= set(asked)  # and each row says yes to its class alone
            answers = [group.columns[row > 0].tolist() for row in group.wanted]
            assert answers == [[c] if c < 80 else [] for c in own.tolist()]
            known = counts[group.vocabulary]
            if known is not None:
                assert (known[np.setdiff1d(asked, present)] > 0).all()


def test_draws_of_one_data_set_do_not_depend_on_the_others() -> None:
    def first(labels: list[int], sizes: tuple[int, int]) -> list[int]:
        rows = goals([0, 0, 1, 1], [1, 99, *labels])
        with random.at(2, "step", 7):
            found = class_targets(
                rows, sizes, [0, 1], background=99, wanted=6, counts=(None, None), by_image=True
            )
        return found.groups[0].columns.tolist()

    assert first([0, 99], (30, 10)) == first([7, 5], (30, 10)) == first([44, 2], (30, 90))
