"""Which arguments of a model are conventions: they move its numbers and no tensor shows them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from unidet.models.arguments import CONVENTION, About, plain

_CLOSE = 1e-3


def differences(
    own: Mapping[str, Any], other: Mapping[str, Any], about: Mapping[str, About]
) -> list[tuple[str, Any, Any]]:
    """Conventions in which two models differ.

    Args:
        own: arguments of the one.
        other: those of the other; only names that both have are compared.
        about: what the configs of the models declare.

    Returns:
        Name and both values; of ``preprocess`` the parts that reach the network's input: channel
        order, mean and standard deviation (in units of bytes).
    """
    found = []
    for key, theirs in other.items():
        if key not in own or (key in about and about[key].kind != CONVENTION):
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
