"""Models by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, is_dataclass
from typing import Any, get_type_hints

from unidet.backends import nn
from unidet.errors import UserError, suggestion
from unidet.files.shown import cut, shown
from unidet.models.arguments import check_types
from unidet.models.clip.model import CLIP, CLIPS
from unidet.models.clip.resnet import LAYERS
from unidet.models.clip.visual import CLIPVisual
from unidet.models.config_checks import check_sizes
from unidet.models.detr.config import DIALECTS as DETR_DIALECTS
from unidet.models.detr.config import DETRConfig
from unidet.models.detr.model import DETR
from unidet.models.faster_rcnn.config import FasterRCNNConfig, argument_names
from unidet.models.faster_rcnn.fast_rcnn import FastRCNN
from unidet.models.faster_rcnn.faster_rcnn import FasterRCNN
from unidet.models.faster_rcnn.presets import DIALECTS as TWO_STAGE_DIALECTS
from unidet.models.layers.resnet import BLOCKS, ResNetClassifier
from unidet.models.retinanet.config import RetinaNetConfig
from unidet.models.retinanet.model import RetinaNet
from unidet.models.retinanet.presets import DIALECTS
from unidet.models.unidetector.cln import CLN
from unidet.models.unidetector.cln_config import DEFAULTS as CLN_DEFAULTS
from unidet.models.unidetector.cln_config import CLNConfig
from unidet.models.unidetector.cln_config import accepted as cln_accepts
from unidet.models.unidetector.config import DEFAULTS, UniDetectorConfig, accepted
from unidet.models.unidetector.model import UniDetector, UniDetectorStage2

#: A number of classes that every model takes.
ANY_CLASSES = 91


@dataclass(frozen=True)
class ModelSpec:
    """How a named model is made.

    Attributes:
        constructor: takes ``defaults`` and the user's arguments.
        defaults: arguments that the name stands for.
        accepts: names of the arguments that a user may give.
    """

    constructor: Callable[..., Any]
    defaults: Mapping[str, Any]
    accepts: tuple[str, ...]


@dataclass(frozen=True)
class ModelConfig:
    """A model's name and arguments, enough to make it again."""

    name: str
    arguments: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """In JSON's types."""
        return {"name": self.name, "arguments": self.arguments}


def _retinanets() -> dict[str, ModelSpec]:
    # The depth is part of the name, so it is no argument.
    accepts = tuple(name for name in RetinaNetConfig.names() if name != "depth")
    specs = {}
    for style, arguments in DIALECTS.items():
        suffix = "" if style == "default" else f"_{style}"
        for depth in BLOCKS:
            defaults = {**arguments, "depth": depth}
            specs[f"retinanet_r{depth}_fpn{suffix}"] = ModelSpec(RetinaNet, defaults, accepts)
    return specs


def _two_stage() -> dict[str, ModelSpec]:
    specs = {}
    for model in (FasterRCNN, FastRCNN):
        accepts = argument_names(model.family)
        for style, dialects in TWO_STAGE_DIALECTS.items():
            # A head of basic blocks is no published form of C4.
            depths = [depth for depth in BLOCKS if style == "fpn" or depth in (50, 101)]
            for name, arguments in dialects.items():
                suffix = "" if name == "default" else f"_{name}"
                own = {key: value for key, value in arguments.items() if key in accepts}
                for depth in depths:
                    defaults = {**own, "style": style, "depth": depth}
                    key = f"{model.family}_r{depth}_{style}{suffix}"
                    specs[key] = ModelSpec(model, defaults, accepts)
    return specs


def _unidetectors() -> dict[str, ModelSpec]:
    return {
        f"{model.family}_r{depth}_c4": ModelSpec(
            model, {**DEFAULTS[model.family], "depth": depth}, accepted(model.family)
        )
        for model in (UniDetector, UniDetectorStage2)
        for depth in LAYERS
    } | {
        f"{CLN.family}_r{depth}_fpn": ModelSpec(
            CLN, {**CLN_DEFAULTS, "depth": depth}, cln_accepts()
        )
        for depth in BLOCKS
    }


def _detrs() -> dict[str, ModelSpec]:
    accepts = tuple(name for name in DETRConfig.names() if name not in ("depth", "dilation"))
    specs = {}
    for dialect, arguments in DETR_DIALECTS.items():
        suffix = "" if dialect == "default" else f"_{dialect}"
        for depth in (18, 34, 50, 101):
            for dilation in (False, True):
                name = f"detr_r{depth}{'_dc5' if dilation else ''}{suffix}"
                defaults = {**arguments, "depth": depth, "dilation": dilation}
                specs[name] = ModelSpec(DETR, defaults, accepts)
    return specs


def _classifiers() -> dict[str, ModelSpec]:
    accepts = ("num_classes", "norm", "norm_eps", "norm_eval", "stride_in_1x1", "frozen_stages")
    return {
        f"resnet{depth}": ModelSpec(ResNetClassifier, {"depth": depth}, accepts) for depth in BLOCKS
    }


def _clips() -> dict[str, ModelSpec]:
    accepts = tuple(name for name in get_type_hints(CLIP.__init__) if name != "return")
    whole = {name: ModelSpec(CLIP, arguments, accepts) for name, arguments in CLIPS.items()}
    return {**whole, "clip_rn50_visual": ModelSpec(CLIPVisual, {}, ())}


#: What declares the types of a constructor's arguments.
CONFIGS: dict[Any, Any] = {
    RetinaNet: RetinaNetConfig,
    FasterRCNN: FasterRCNNConfig,
    FastRCNN: FasterRCNNConfig,
    CLIP: CLIP.__init__,
    UniDetector: UniDetectorConfig,
    UniDetectorStage2: UniDetectorConfig,
    CLN: CLNConfig,
    DETR: DETRConfig,
}

#: Every model that :func:`create_model` makes.
MODELS: dict[str, ModelSpec] = {
    **_retinanets(),
    **_two_stage(),
    **_unidetectors(),
    **_detrs(),
    **_classifiers(),
    **_clips(),
}


def model_spec(name: str) -> ModelSpec:
    """The entry of ``MODELS``.

    Raises:
        UserError: no model has this name.
    """
    if not isinstance(name, str) or name not in MODELS:
        hint = suggestion(str(name), MODELS) or f" Some are {', '.join(list(MODELS)[:5])}."
        raise UserError(
            f"Invalid value for `name`. Expected the name of a model. Received {shown(name)}.{hint}"
        )
    return MODELS[name]


def _chosen(name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """What a model's constructor is given, after names and types were checked."""
    spec = model_spec(name)
    for key in arguments:
        if key not in spec.accepts:
            raise UserError(
                f"Invalid argument `{cut(str(key), 200)}` for model {name}. Expected one of "
                f"{', '.join(spec.accepts)}.{suggestion(str(key), spec.accepts)}"
            )
    config = CONFIGS.get(spec.constructor)
    check_types(arguments, get_type_hints(config) if config else {"num_classes": int})
    check_sizes(arguments)
    chosen = {**spec.defaults, **arguments}
    if isinstance(arguments.get("preprocess"), Mapping):
        chosen["preprocess"] = {**spec.defaults["preprocess"], **arguments["preprocess"]}
    return chosen


def check_arguments(name: str, arguments: Mapping[str, Any]) -> None:
    """Refuses what :func:`create_model` would, without a framework and without weights.

    Args:
        name: a key of ``MODELS``.
        arguments: as there; the number of classes may be missing.

    Raises:
        UserError: an unknown name or argument.
        ValueError: an argument that makes no sense.
    """
    chosen = _chosen(name, arguments)
    config = CONFIGS.get(model_spec(name).constructor)
    if is_dataclass(config):
        own = {"num_classes": ANY_CLASSES, **chosen}
        if "num_classes" not in arguments and "class_names" in arguments:
            # The data decide both.
            own = {key: value for key, value in own.items() if key != "class_names"}
        config(**own)


def create_from(
    name: str, arguments: Any, *, backend: str | None = None, seed: int | None = 0
) -> Any:
    """Like :func:`create_model` for arguments that a file holds, whatever their names.

    Raises:
        UserError: as there, and for names that only its caller may give, such as ``backend``.
    """
    if not isinstance(arguments, Mapping):
        raise UserError(
            f"Invalid arguments of model {shown(name)}. Expected a mapping of names to values. "
            f"Received {shown(arguments)}."
        )
    _chosen(name, arguments)
    return create_model(name, backend=backend, seed=seed, **arguments)


def create_model(
    name: str, *, backend: str | None = None, seed: int | None = 0, **arguments: Any
) -> Any:
    """Makes a model with fresh weights.

    Args:
        name: a key of ``MODELS``.
        backend: ``"torch"`` or ``"jittor"``; see :func:`unidet.backends.resolve`.
        seed: of the weights, which are the same on both backends; ``None`` leaves them at zero,
            which saves time where others are loaded.
        arguments: take the place of what the name stands for; entries of ``preprocess`` each on
            their own.

    Returns:
        A ``torch.nn.Module`` or a ``jittor.Module``, in evaluation mode.

    Raises:
        UserError: an unknown name or argument.
        ValueError: an argument that makes no sense.
    """
    chosen = _chosen(name, arguments)
    spec = model_spec(name)
    with nn.initial_seed(seed):
        model = spec.constructor(**chosen, backend=backend)
    model.model_name = name
    model.eval()
    return model
