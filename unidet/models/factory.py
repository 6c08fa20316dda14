"""Models by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_type_hints

from unidet.backends import nn
from unidet.errors import UserError, suggestion
from unidet.files.shown import cut, shown
from unidet.models import classifier, clip, detr, faster_rcnn, retinanet, unidetector
from unidet.models.arguments import check_types
from unidet.models.base import DetectionModel, Model, ModelSpec, merged


@dataclass(frozen=True)
class ModelConfig:
    """A model's name and arguments, enough to make it again."""

    name: str
    arguments: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """In JSON's types."""
        return {"name": self.name, "arguments": self.arguments}


#: Every model that :func:`create_model` makes, those of plugins included.
MODELS: dict[str, ModelSpec] = {
    **retinanet.MODELS,
    **faster_rcnn.MODELS,
    **unidetector.MODELS,
    **detr.MODELS,
    **classifier.MODELS,
    **clip.MODELS,
}


def model_spec(name: str) -> ModelSpec:
    """The entry of ``MODELS``.

    Raises:
        UserError: no model has this name.
    """
    if isinstance(name, str) and name not in MODELS:
        from unidet.plugins import load_plugins

        load_plugins()
    if not isinstance(name, str) or name not in MODELS:
        hint = suggestion(str(name), MODELS) or f" Some are {', '.join(list(MODELS)[:5])}."
        raise UserError(
            f"Invalid value for `name`. Expected the name of a model. Received {shown(name)}.{hint}"
        )
    return MODELS[name]


def _chosen(name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """All arguments of a model, after the names and types of those given were checked."""
    spec = model_spec(name)
    accepts = spec.accepts
    for key in arguments:
        if key not in accepts:
            raise UserError(
                f"Invalid argument `{cut(str(key), 200)}` for model {name}. Expected one of "
                f"{', '.join(accepts)}.{suggestion(str(key), accepts)}"
            )
    check_types(arguments, get_type_hints(spec.constructor.config_class))
    return merged(spec.defaults, arguments)


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
    if "num_classes" not in arguments and "class_names" in arguments:
        # The data decide both.
        chosen = {key: value for key, value in chosen.items() if key != "class_names"}
    model_spec(name).constructor.config_class(**chosen)


def create_from(
    name: str, arguments: Any, *, backend: str | None = None, seed: int | None = 0
) -> Model:
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
) -> DetectionModel:
    """Makes a model with fresh weights.

    Args:
        name: a key of ``MODELS``.
        backend: ``"torch"`` or ``"jittor"``; see :func:`unidet.backends.resolve`.
        seed: of the weights, which are the same on both backends; ``None`` leaves them at zero,
            which saves time where others are loaded.
        arguments: take the place of what the name stands for; entries of ``preprocess`` each on
            their own.

    Returns:
        A ``torch.nn.Module`` or a ``jittor.Module``, in evaluation mode. Names of CLIP and of
        classifiers give a :class:`unidet.models.Model`, which finds no boxes.

    Raises:
        UserError: an unknown name or argument.
        ValueError: an argument that makes no sense.
    """
    chosen = _chosen(name, arguments)
    constructor: Any = model_spec(name).constructor
    with nn.initial_seed(seed):
        model = constructor(constructor.config_class(**chosen), backend=backend)
    model.model_name = name
    model.eval()
    made: DetectionModel = model
    return made
