"""Transforms of albumentations: seeded by the loader, boxes and their marks move along."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from unidet.data import DetectionDataset, Loader, Preprocess, create_augmentation
from unidet.data.transforms import HorizontalFlip, VerticalFlip
from unidet.errors import UserError
from unidet.structures import Targets

pytest.importorskip("albumentations")

FLIP = {"name": "HorizontalFlip", "p": 1.0}
#: Of the fine-tuning recipe.
RECIPE = [
    {"name": "Perspective", "p": 0.5},
    {"name": "HorizontalFlip"},
    {"name": "RandomBrightnessContrast", "p": 0.5},
    {"name": "HueSaturationValue", "p": 0.5},
]


def make(*transforms: Any, **options: Any) -> Any:
    return create_augmentation("albumentations", {"transforms": list(transforms), **options})


def painted() -> tuple[np.ndarray, Targets]:
    image = np.zeros((40, 60, 3), np.uint8)
    boxes = [[5, 4, 15, 12], [30, 20, 50, 34], [0, 0, 60, 40]]
    for value, (x1, y1, x2, y2) in zip((100, 200), boxes):
        image[y1:y2, x1:x2] = value
    marks = np.array([True, False, False]), np.array([False, True, False])
    return image, Targets(np.array(boxes, np.float32), np.array([-4, 9, 2]), *marks)


def test_flips_are_those_of_unidet() -> None:
    image, targets = painted()
    for name, own in (("HorizontalFlip", HorizontalFlip(1)), ("VerticalFlip", VerticalFlip(1))):
        out, found = make({"name": name, "p": 1})(image, targets, np.random.default_rng(0))
        want, boxes = own(image, targets, np.random.default_rng(0))
        np.testing.assert_array_equal(out, want)
        np.testing.assert_allclose(found.boxes_xyxy, boxes.boxes_xyxy, atol=1e-4)
        np.testing.assert_array_equal(found.labels, targets.labels)
    still, same = make({"name": "HorizontalFlip", "p": 0})(image, targets, np.random.default_rng(0))
    np.testing.assert_array_equal(still, image)
    np.testing.assert_allclose(same.boxes_xyxy, targets.boxes_xyxy, atol=1e-5)


def test_marks_stay_with_the_boxes_that_are_left() -> None:
    image, targets = painted()
    window = {"name": "Crop", "x_min": 25, "y_min": 15, "x_max": 60, "y_max": 40}
    out, found = make(window)(image, targets, np.random.default_rng(0))
    assert out.shape == (25, 35, 3)
    assert found.labels.tolist() == [9, 2]
    assert (found.crowd.tolist(), found.ignore.tolist()) == ([False, False], [True, False])
    np.testing.assert_allclose(found.boxes_xyxy, [[5, 5, 25, 19], [0, 0, 35, 25]], atol=1e-4)
    _, small = make(window, min_area=300)(image, targets, np.random.default_rng(0))
    _, hidden = make(window, min_visibility=0.5)(image, targets, np.random.default_rng(0))
    assert (small.labels.tolist(), hidden.labels.tolist()) == ([2], [9])
    empty = targets[np.zeros(3, bool)]
    assert len(make(window)(image, empty, np.random.default_rng(0))[1]) == 0


def test_one_draw_of_the_generator_decides_all() -> None:
    image, targets = painted()
    augment = make(*RECIPE, {"name": "VerticalFlip"})
    pictures = []
    for seed in (0, 1, 0):
        rng = np.random.default_rng(seed)
        pictures.append(augment(image, targets, rng)[0])
        again = np.random.default_rng(seed)
        again.integers(2**63)
        assert rng.random() == again.random()
    np.testing.assert_array_equal(pictures[0], pictures[2])
    assert not np.array_equal(pictures[0], pictures[1])


def test_transforms_draw_independently() -> None:
    image, targets = painted()
    both = make({"name": "HorizontalFlip", "p": 0.5}, {"name": "VerticalFlip", "p": 0.5})
    rng = np.random.default_rng(0)
    kinds = {both(image, targets, rng)[0].tobytes() for _ in range(40)}
    assert len(kinds) == 4


def test_groups_hold_transforms() -> None:
    image, targets = painted()
    one = make(
        {
            "name": "OneOf",
            "p": 1.0,
            "transforms": [
                FLIP,
                {"name": "Sequential", "p": 1, "transforms": [{"name": "VerticalFlip", "p": 1}]},
            ],
        }
    )
    rng = np.random.default_rng(0)
    kinds = {one(image, targets, rng)[0].tobytes() for _ in range(20)}
    want = {np.ascontiguousarray(flipped).tobytes() for flipped in (image[:, ::-1], image[::-1])}
    assert kinds == want


def test_a_loader_repeats_whatever_its_threads(scenes: DetectionDataset) -> None:
    def epoch(workers: int) -> list[Any]:
        loader = Loader(
            scenes,
            Preprocess(resize="none", pad_divisor=1),
            2,
            seed=5,
            shuffle=True,
            augmentations=[make(*RECIPE)],
            num_workers=workers,
        )
        return list(loader.epoch(1))

    first = epoch(0)
    for other in (epoch(0), epoch(3)):
        for one, two in zip(first, other, strict=True):
            np.testing.assert_array_equal(one.images, two.images)
            for left, right in zip(one.targets, two.targets, strict=True):
                np.testing.assert_array_equal(left.boxes_xyxy, right.boxes_xyxy)


@pytest.mark.parametrize(
    ("transforms", "message"),
    [
        ([{"name": "HorizontalFlipp"}], r"`transforms\.0\.name`.*Did you mean 'HorizontalFlip'"),
        ([FLIP, {"name": "CenterCrop3D"}], r"`transforms\.1\.name`.*'CenterCrop3D'"),
        ([{"name": "Mosaic"}], r"Mosaic, which asks for mosaic_metadata"),
        ([{**FLIP, "q": 1}], r"argument for `transforms\.0`.*Expected p for Horiz.*'q'"),
        ([{"name": "HorizontalFlip", "p": 3}], r"arguments for `transforms\.0`.*less than or"),
        ([{"name": "RandomCrop", "height": 3}], "width Field required"),
        ([{"name": "OneOf", "transforms": []}], r"`transforms\.0\.transforms`.*a list"),
        (
            [{"name": "OneOf", "transforms": [{"name": "Blurr"}]}],
            r"`transforms\.0\.transforms\.0\.name`.*Did you mean 'Blur'",
        ),
        (["HorizontalFlip"], r"`transforms\.0`.*a mapping.*'HorizontalFlip'"),
        ([], "`transforms`.*a list"),
        (FLIP, "`transforms`.*a list"),
    ],
)
def test_mistakes_are_one_line(transforms: Any, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        create_augmentation("albumentations", {"transforms": transforms})
    assert "\n" not in str(caught.value)


def test_bad_limits_and_transforms_that_do_not_fit() -> None:
    image, targets = painted()
    with pytest.raises(ValueError, match="`min_area`"):
        make(FLIP, min_area=-1)
    with pytest.raises(ValueError, match="`min_visibility`"):
        make(FLIP, min_visibility=1.5)
    with pytest.raises(UserError, match=r"missing.*transforms"):
        create_augmentation("albumentations")
    large = make({"name": "RandomCrop", "height": 50, "width": 50})
    with pytest.raises(UserError, match=r"fit a picture of 40 x 60 pixels.*Crop size"):
        large(image, targets, np.random.default_rng(0))
    floats = make({"name": "Normalize"})
    with pytest.raises(UserError, match=r"keep a picture uint8.*float32"):
        floats(image, targets, np.random.default_rng(0))


def test_without_the_package_the_line_says_how_to_install_it() -> None:
    code = (
        "import sys\n"
        "sys.modules['albumentations'] = None\n"
        "from unidet.data import create_augmentation\n"
        "try:\n"
        "    create_augmentation('albumentations', {'transforms': [{'name': 'Blur'}]})\n"
        "except ValueError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == (
        "The package 'albumentations' is not installed. "
        "Install it: pip install 'albumentations>=2.0.8'.\n"
    ), done.stderr


def test_naming_augmentations_does_not_import_it() -> None:
    code = "import sys, unidet.data; print('albumentations' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "False\n", done.stderr
