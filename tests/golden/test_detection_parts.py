"""Anchors, matching, box coding and losses against the outputs of the peers' own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.golden.support import Golden, as_targets
from unidet.backends import ops
from unidet.losses import (
    BOX_LOSSES,
    PAIRWISE,
    iou_loss,
    sigmoid_focal_loss,
    smooth_l1_loss,
)
from unidet.models.boxes.anchors import AnchorGenerator, octave_sizes, truncated_octave_sizes
from unidet.models.boxes.coder import BoxCoder
from unidet.models.boxes.geometry import clip_boxes
from unidet.models.boxes.matcher import Matcher
from unidet.models.retinanet.presets import PRESETS_BY_NAME
from unidet.models.retinanet.targets import build_targets
from unidet.structures import Targets


@pytest.fixture(scope="module")
def gold(sample_data: Path) -> Any:
    return np.load(sample_data / "golden" / "given" / "ops" / "outputs.npz")


def close(found: Any, expected: np.ndarray, *, rtol: float = 1e-5, atol: float = 1e-5) -> None:
    known = ~np.isnan(expected)
    np.testing.assert_allclose(np.asarray(found)[known], expected[known], rtol, atol)


# --- anchors ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "settings"),
    [
        ("yhenon", {"sizes": octave_sizes(), "offset": 0.5}),
        (
            "torchvision_retinanet",
            {"sizes": truncated_octave_sizes(), "rounding": True, "stride_rule": "measured"},
        ),
        ("mmdet_retinanet", {"sizes": octave_sizes()}),
        (
            "mmdet_rpn_fpn",
            {"sizes": [(32,), (64,), (128,), (256,), (512,)], "strides": (4, 8, 16, 32, 64)},
        ),
    ],
)
def test_anchors(gold: Any, key: str, settings: dict) -> None:
    height, width = (int(side) for side in gold["anchors/image_hw"])
    anchors = AnchorGenerator(**settings)
    shapes = [(-(-height // stride), -(-width // stride)) for stride in anchors.strides]
    close(anchors.all_levels((height, width), shapes), gold[f"anchors/{key}"], atol=1e-3)


# --- matching -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "settings"),
    [
        ("tv_0.7_0.3_lowquality", (0.7, 0.3, "anchor", 0)),
        ("tv_0.5_0.4_lowquality", (0.5, 0.4, "anchor", 0)),
        ("tv_0.5_0.5", (0.5, 0.5, None, 0)),
        ("mm_0.7_0.3_0.3", (0.7, 0.3, "target", 0.3)),
        ("mm_0.3_0.1_0.3", (0.3, 0.1, "target", 0.3)),
        ("mm_0.5_0.4_0", (0.5, 0.4, "target", 0)),
        ("mm_0.5_0.5_0.5_nolow", (0.5, 0.5, None, 0)),
    ],
)
def test_matcher(gold: Any, key: str, settings: tuple) -> None:
    positive, negative, low_quality, least = settings
    matcher = Matcher(positive, negative, low_quality=low_quality, low_quality_iou=least)
    boxes = gold["match/gt"]
    found = matcher(gold["anchors/torchvision_rpn"], as_targets(boxes, np.zeros(len(boxes))))
    expected = gold[f"match/{key}"]
    if key.startswith("mm"):  # there 0 is background, -1 ignored, k the object k - 1
        expected = np.where(expected > 0, expected - 1, -1 - (expected < 0))
    assert np.array_equal(found, expected)


# --- box coding ---------------------------------------------------------------------------------

CODERS = {
    "delta_std1": BoxCoder(log_limit_both=True),
    "delta_std.1.2": BoxCoder((0.1, 0.1, 0.2, 0.2), log_limit_both=True),
    "torchvision_w1": BoxCoder(),
    "torchvision_w10": BoxCoder((0.1, 0.1, 0.2, 0.2)),
}


@pytest.mark.parametrize("key", CODERS)
def test_box_coder(gold: Any, key: str) -> None:
    coder, proposals = CODERS[key], gold["coder/proposals"]
    encoded = coder.encode(gold["coder/gt"], proposals)
    close(encoded, gold[f"coder/{key}/encode"], rtol=1e-5, atol=1e-4)
    decoded = coder.decode(gold["coder/deltas"], proposals)
    close(decoded, gold[f"coder/{key}/decode"], rtol=1e-5, atol=1e-3)
    if f"coder/{key}/decode_clip300x280" in gold:
        clipped = clip_boxes(decoded, 300, 280)
        close(clipped, gold[f"coder/{key}/decode_clip300x280"], atol=1e-3)


def test_yhenon_decodes_without_bounds(gold: Any) -> None:
    coder = BoxCoder((0.1, 0.1, 0.2, 0.2), log_limit=None)
    decoded = coder.decode(gold["coder/deltas"] * np.float32(0.3), gold["coder/proposals"])
    close(decoded, gold["coder/yhenon/decode_0.3deltas"], atol=1e-3)
    clipped = clip_boxes(decoded, 280, 300, one_sided=True)
    close(clipped, gold["coder/yhenon/decode_clipped_280x300"], atol=1e-3)


# --- losses -------------------------------------------------------------------------------------


def value_and_gradient(
    loss: Any, prediction: np.ndarray, backend: str
) -> tuple[np.ndarray, np.ndarray]:
    x = ops.asarray(prediction, backend=backend)
    _, (gradient,) = ops.grad(lambda p: ops.sum(loss(p)), [x])
    return ops.to_numpy(loss(x)), ops.to_numpy(gradient)


@pytest.mark.parametrize("unit", ["pixel", "unit"])
@pytest.mark.parametrize("key", ["mmdet_iou", *(f"tv_{k}" for k in BOX_LOSSES), "mmdet_ciou"])
def test_box_losses(gold: Any, backend: str, key: str, unit: str) -> None:
    kind = key.split("_")[1]
    suffix = "_loss_linear" if kind == "iou" else "_loss"
    target = ops.asarray(gold[f"iou/{unit}/gt"], backend=backend)
    loss = iou_loss if kind == "iou" else BOX_LOSSES[kind]
    options = {"gate": True} if key == "mmdet_ciou" else {}
    value, gradient = value_and_gradient(
        lambda p: loss(p, target, **options), gold[f"iou/{unit}/pred"], backend
    )
    close(value[:, 0], gold[f"iou/{unit}/{key}{suffix}"])
    # The last two rows are equal boxes, whose gradient is anyone's choice.
    expected = gold[f"iou/{unit}/{key}{suffix}_grad"]
    # The three before them do not overlap: mmdetection's IoU has a lower bound there, and no slope.
    rows = 40 if kind == "iou" else 43
    close(gradient[:rows], expected[:rows], rtol=1e-3, atol=2e-5)


@pytest.mark.parametrize("unit", ["pixel", "unit"])
@pytest.mark.parametrize("kind", PAIRWISE)
def test_pairwise_overlaps(gold: Any, kind: str, unit: str) -> None:
    boxes = gold[f"iou/{unit}/pred"][:10], gold[f"iou/{unit}/gt"]
    close(PAIRWISE[kind](*boxes), gold[f"iou/{unit}/pairwise_{kind}"])


@pytest.mark.parametrize("kind", ["giou", "diou"])
def test_box_losses_of_mmdet(gold: Any, backend: str, kind: str) -> None:
    # Like torchvision's but for where eps goes, which only shares of an image show.
    boxes = (ops.asarray(gold[f"iou/unit/{name}"], backend=backend) for name in ("pred", "gt"))
    close(ops.to_numpy(BOX_LOSSES[kind](*boxes))[:, 0], gold[f"iou/unit/mmdet_{kind}_loss"])


@pytest.mark.parametrize(
    ("key", "alpha", "gamma"),
    [
        ("tv_alpha0.25_gamma2.0", 0.25, 2.0),
        ("tv_alpha-1_gamma2.0", None, 2.0),
        ("tv_alpha0.75_gamma1.5", 0.75, 1.5),
        ("tv_alpha0.25_gamma0.0", 0.25, 0.0),
        ("mmdet_alpha.25_gamma2", 0.25, 2.0),
    ],
)
def test_focal_loss(gold: Any, backend: str, key: str, alpha: float | None, gamma: float) -> None:
    # The stored targets are several per row, so each logit becomes a problem of one class.
    logits, targets = gold["focal/logits"], gold["focal/targets"]
    assert set(np.unique(targets)) <= {0, 1}
    classes = ops.asarray((targets.reshape(-1) - 1).astype(np.int32), backend=backend)
    value, gradient = value_and_gradient(
        lambda x: sigmoid_focal_loss(x, classes, alpha=alpha, gamma=gamma),
        logits.reshape(-1, 1),
        backend,
    )
    close(value, gold[f"focal/{key}"].reshape(-1, 1))
    close(gradient, gold[f"focal/{key}_grad"].reshape(-1, 1), rtol=1e-3)


@pytest.mark.parametrize("beta", ["0.1111", "0.5000", "1.0000"])
def test_smooth_l1_loss(gold: Any, backend: str, beta: str) -> None:
    target = ops.asarray(gold["smooth_l1/target"], backend=backend)
    width = 1 / 9 if beta == "0.1111" else float(beta)
    value, gradient = value_and_gradient(
        lambda p: smooth_l1_loss(p, target, width), gold["smooth_l1/pred"], backend
    )
    close(value, gold[f"smooth_l1/beta{beta}"])
    close(gradient, gold[f"smooth_l1/beta{beta}_grad"], rtol=1e-3)


@pytest.mark.parametrize("empty", [False, True])
def test_yhenon_losses(gold: Any, backend: str, empty: bool) -> None:
    c = PRESETS_BY_NAME["yhenon"]
    rows = gold["yhenon_loss/annotations"]
    rows = rows[:0] if empty else rows[rows[:, 4] >= 0]
    goal = build_targets(
        gold["anchors/yhenon"],
        [Targets(rows[:, :4], rows[:, 4].astype(np.int64))],
        matcher=Matcher(0.5, 0.4, low_quality=None),
        coder=BoxCoder(c["box_std"], log_limit=None, min_side=1.0),
        num_classes=5,
        normalizer="image",
    )
    probabilities = gold["yhenon_loss/probabilities"].astype(np.float64)
    logits = ops.asarray(
        (np.log(probabilities) - np.log1p(-probabilities)).astype(np.float32), backend=backend
    )
    focal = sigmoid_focal_loss(
        logits,
        ops.asarray(goal.classes, backend=backend),
        alpha=0.25,
        gamma=2.0,
        probability_clamp=1e-4,
    )
    cls = float(np.sum(ops.to_numpy(focal) * goal.class_weights[..., None], dtype=np.float64))
    deltas = ops.asarray(gold["yhenon_loss/regression"][0], backend=backend)
    loss = smooth_l1_loss(
        ops.take(deltas, goal.positives), ops.asarray(goal.deltas, backend=backend)
    )
    box = float(np.sum(ops.to_numpy(loss) * goal.box_weights[:, None] / 4, dtype=np.float64))
    keys = ("empty_classification", "empty_regression") if empty else (
        "classification", "regression_loss",
    )  # fmt: skip
    assert cls == pytest.approx(float(gold[f"yhenon_loss/{keys[0]}"][0]), rel=1e-4)
    assert box == pytest.approx(float(gold[f"yhenon_loss/{keys[1]}"][0]), rel=1e-4, abs=1e-7)


def test_golden_checks_can_fail(sample_data: Path) -> None:
    golden = Golden(sample_data, "torchvision_resnet18")
    with pytest.raises(AssertionError):
        golden.check("stem", np.zeros(tuple(golden["stem/shape"]), np.float32))
