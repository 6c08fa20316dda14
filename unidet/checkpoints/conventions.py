"""Which arguments of a model are conventions: they move its numbers and no tensor shows them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Labels, and what names and shapes of the tensors show.
_VISIBLE = {
    *(
        "num_classes",
        "class_names",
        "background_slot",
        "depth",
        "style",
        "fpn_channels",
        "fpn_norm",
    ),
    *("vocabulary_sizes", "clip_layers", "clip_width", "embedding_dim"),
    *("head", "head_channels", "head_depth", "head_norm", "rpn_convs", "class_agnostic"),
    *("num_queries", "width", "feedforward", "encoder_layers", "decoder_layers"),
}
#: What only training knows.
_TRAINING = {
    *("norm", "norm_eval", "frozen_stages", "init", "prior", "normalizer", "box_min_side"),
    *("positive_iou", "negative_iou", "low_quality", "ignore_overlap", "add_ground_truth"),
    *("focal_alpha", "focal_gamma", "focal_clamp"),
    *("box_loss", "box_beta", "box_reduction", "box_weight"),
    *("rpn_positive_iou", "rpn_negative_iou", "rpn_low_quality", "rpn_low_quality_iou"),
    *("rpn_batch", "rpn_positive_fraction", "rpn_border", "rpn_loss", "rpn_beta"),
    *("rpn_normalizer", "rpn_pre_nms_train", "rpn_post_nms_train"),
    *("roi_positive_iou", "roi_negative_iou", "roi_low_quality", "roi_batch"),
    *("roi_positive_fraction", "federated_classes", "class_weight", "max_proposals_train"),
    *("rpn_box_weight", "quality_positive_iou", "quality_negative_iou", "skip_border_targets"),
    *("dropout", "attention_dropout", "activation_dropout", "input_dropout", "auxiliary_losses"),
    *("cost_class", "cost_bbox", "cost_giou", "match_measure", "eos_coef"),
    *("weight_ce", "weight_bbox", "weight_giou", "box_loss_space", "box_loss_eps", "ciou_gate"),
}
#: What a user sets at will: how many detections, how good.
_SETTINGS = {
    *("score_threshold", "pre_nms", "nms_iou", "max_detections"),
    *("rpn_pre_nms_test", "rpn_post_nms_test", "rpn_nms_iou", "rpn_score_threshold"),
    *("soft_nms", "soft_sigma", "soft_min_score"),
    *("max_proposals_test", "beta", "gamma", "class_prior"),
}
#: All that is no convention. An argument that is not listed is one, so that a new one is not
#: forgotten.
FREE = frozenset(_VISIBLE | _TRAINING | _SETTINGS)
_CLOSE = 1e-3


def differences(own: Mapping[str, Any], other: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Conventions in which two models differ.

    Args:
        own: arguments of the one.
        other: those of the other; only names that both have are compared.

    Returns:
        Name and both values; of ``preprocess`` the parts that reach the network's input: channel
        order, mean and standard deviation (in units of bytes).
    """
    found = []
    for key, theirs in other.items():
        if key not in own or key in FREE:
            continue
        if key == "preprocess":
            found += _input_differences(own[key], theirs)
        elif plain(own[key]) != plain(theirs):
            found.append((key, plain(own[key]), plain(theirs)))
    return found


def _input_differences(
    own: Mapping[str, Any], other: Mapping[str, Any]
) -> list[tuple[str, Any, Any]]:
    # Imported here: renaming needs no code for pictures.
    from unidet.data.preprocess import Preprocess

    one, two = Preprocess(**own), Preprocess(**other)
    found: list[tuple[str, Any, Any]] = []
    if one.channel_order != two.channel_order:
        found.append(("channel_order", one.channel_order, two.channel_order))
    for key in ("mean", "std"):
        mine, theirs = ([v * p.scale for v in getattr(p, key)] for p in (one, two))
        if any(abs(a - b) > _CLOSE * max(abs(a), abs(b)) for a, b in zip(mine, theirs)):
            found.append((key, [round(v, 3) for v in mine], [round(v, 3) for v in theirs]))
    return found


def plain(value: Any) -> Any:
    """Tuples as lists, at any depth, as JSON has them."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def in_words(arguments: Mapping[str, Any]) -> dict[str, str]:
    """What a detector's weights were made for, topic by topic.

    Args:
        arguments: all arguments of a detector, as its config holds them.
    """
    get = arguments.get
    labels = f"{get('num_classes')}, no background (sigmoid)"
    if "num_classes" not in arguments:
        labels = "1 for all objects, background last"
    if "background" in arguments:
        labels = f"{arguments['num_classes']}, background {get('background')}"
    if get("background_slot") == 0:
        labels = f"{arguments['num_classes']} slots, slot 0 is the background"
    words = {
        "labels": labels,
        "input": _input_in_words(arguments["preprocess"]),
        "resize": _resize_in_words(arguments["preprocess"]),
        "backbone": f"{_stride_in_words(arguments)}, {get('norm')} norm, eps {get('norm_eps'):g}",
    }
    if "num_queries" in arguments:
        words["labels"] = f"{arguments['num_classes']} slots, no object last"
        words["boxes"] = "centre, width and height as shares of the image without padding"
        words["attention"] = f"{get('heads')} heads, sine positions"
        return words
    if "anchor_order" in arguments:
        rounding = "rounded" if get("anchor_rounding") else "not rounded"
        words["anchors"] = f"{get('anchor_order')}-outer, offset {get('anchor_offset')}, {rounding}"
    words["boxes"] = f"std {' '.join(f'{v:g}' for v in get('box_std', ()))}"
    if "roi_aligned" in arguments:
        aligned = "aligned" if get("roi_aligned") else "not aligned"
        points = get("roi_sampling_ratio") or "adaptive"
        words["roi align"] = f"{get('roi_size')}x{get('roi_size')}, {aligned}, sampling {points}"
    if get("roi_level_rule"):
        words["levels"] = f"rule of {get('roi_level_rule')}"
    return words


def _stride_in_words(arguments: Mapping[str, Any]) -> str:
    if "clip_width" in arguments:
        return "CLIP's, a mean over 2x2 strides"
    return f"stride in the {'1x1' if arguments.get('stride_in_1x1') else '3x3'}"


def _input_in_words(preprocess: Mapping[str, Any]) -> str:
    mean, std = (
        " ".join(f"{v * preprocess['scale']:.6g}" for v in preprocess[key])
        for key in ("mean", "std")
    )
    return f"{preprocess['channel_order'].upper()} of 0 to 255, mean {mean}, std {std}"


def _resize_in_words(preprocess: Mapping[str, Any]) -> str:
    pad = f"padded to multiples of {preprocess['pad_divisor']}"
    sides = f"{preprocess['min_size']} to {preprocess['max_size']} px"
    if preprocess["resize"] == "none":
        return f"none, {pad}"
    return f"rule of {preprocess['resize']}, {sides}, {pad}"
