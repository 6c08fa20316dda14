"""A door for other people's code: models, data formats, augmentations, checkpoints, operations.

A plugin is a module that calls the functions below when it is imported. It is found by an entry
point of the group ``unidet.plugins`` of an installed package, by ``--plugin my_package.module`` on
the command line, or by the environment variable ``UNIDET_PLUGINS`` (names with commas between).
What a plugin registers is used by the same commands as what is built in. See docs/plugins.md.
"""

from __future__ import annotations

import functools
import importlib
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from typing import TYPE_CHECKING, Any

from unidet.errors import UserError
from unidet.files.shown import shown

if TYPE_CHECKING:
    from unidet.data.dataset import DetectionDataset
    from unidet.models.base import Model
    from unidet.weights_convert import Family

#: Names of modules with commas between; processes that a command starts see it, too.
ENVIRONMENT_VARIABLE = "UNIDET_PLUGINS"
ENTRY_POINTS = "unidet.plugins"


def register_model(
    name: str, constructor: type[Model], changes: Mapping[str, Any] | None = None
) -> None:
    """Adds a model, or a preset of one, to what ``create_model`` makes.

    Args:
        name: such as ``"fcos_r50_fpn"``.
        constructor: a class that derives from :class:`unidet.models.DetectionModel`.
        changes: arguments that the name stands for, where they differ from the config's defaults.

    Raises:
        UserError: the name is taken, or the class has no config.
        ValueError: values that the config does not allow.
    """
    from unidet.models.arguments import Arguments
    from unidet.models.base import Model, ModelSpec
    from unidet.models.factory import MODELS

    _check_name(name)
    if not (isinstance(constructor, type) and issubclass(constructor, Model)):
        raise UserError(
            f"Invalid model {shown(name)}. Expected a class that derives from "
            f"unidet.models.DetectionModel. Received {shown(constructor)}."
        )
    if not issubclass(constructor.config_class, Arguments):
        raise UserError(
            f"Invalid model {shown(name)}. Expected `config_class` to be a dataclass that derives "
            f"from unidet.models.arguments.Arguments. Received {shown(constructor.config_class)}."
        )
    spec = ModelSpec(constructor, dict(changes or {}))
    constructor.config_class(**spec.defaults)
    _add(MODELS, name, spec, "model")


def register_dataset_format(
    name: str,
    reader: Callable[..., DetectionDataset],
    keys: Sequence[str] = ("annotations", "images"),
) -> None:
    """Adds a format of annotations, for ``data.format`` in configs and ``--format`` in commands.

    Args:
        name: of the format.
        reader: called with those of ``keys`` that a user gave, and with ``name``,
            ``class_names`` and ``on_bad`` where given; returns the data set.
        keys: of a data source that the format takes: some of ``annotations``, ``images``, ``root``
            and ``split``.

    Raises:
        UserError: the name is taken, or a key that sources do not have.
    """
    from unidet.config.formats import ANNOTATION_FORMATS
    from unidet.data.sources import FORMATS, SOURCE_KEYS, Format

    _check_name(name)
    for key in keys:
        if key not in SOURCE_KEYS:
            raise UserError(
                f"Invalid key of the format {shown(name)}. Expected some of "
                f"{', '.join(SOURCE_KEYS)}. Received {shown(key)}."
            )
    _add(FORMATS, name, Format(reader, tuple(keys)), "format")
    ANNOTATION_FORMATS.append(name)


def register_augmentation(name: str, kind: type) -> None:
    """Adds an augmentation for ``data.augmentations`` in configs.

    Args:
        name: of the augmentation.
        kind: a class whose keyword arguments are the config's; see
            :class:`unidet.data.transforms.Augmentation` for what its instances do.

    Raises:
        UserError: the name is taken.
    """
    from unidet.data.augmentations import AUGMENTATIONS

    _check_name(name)
    _add(AUGMENTATIONS, name, kind, "augmentation")


def register_checkpoint_family(family: Family) -> None:
    """Adds a kind of published checkpoint for ``load_weights``, ``convert`` and ``--from``.

    Args:
        family: see :class:`unidet.weights_convert.Family` and
            :func:`unidet.weights_convert.families.model_family`.

    Raises:
        UserError: the name is taken.
    """
    from unidet.weights_convert.families import FAMILIES

    _check_name(family.name)
    _add(FAMILIES, family.name, family, "checkpoint family")


def register_op(name: str, **implementations: str | Callable[..., Any]) -> Callable[..., Any]:
    """Makes one operation of several implementations, which models may call.

    ::

        deform_conv2d = unidet.register_op(
            "deform_conv2d", torch="my_ops.on_torch:deform_conv2d", jittor="my_ops.on_jittor:run"
        )

    Args:
        name: for messages and for :func:`unidet.backends.ops.custom.registered`.
        implementations: ``torch``, ``jittor`` and, for tests, ``numpy``: a function, or
            ``"module:function"``, which is imported when it is first needed.

    Returns:
        The operation: it runs the implementation of the first tensor among its arguments.

    Raises:
        UserError: the name is taken, or a backend that does not exist.
    """
    from unidet.backends.ops import custom

    _check_name(name)
    try:
        return custom.register(name, implementations)
    except ValueError as error:
        raise UserError(str(error)) from None


def load_plugins(names: Sequence[str] = ()) -> None:
    """Imports plugins: those named, those of ``UNIDET_PLUGINS`` and those of installed packages.

    Args:
        names: modules; each is added to ``UNIDET_PLUGINS``, for processes started later.

    Raises:
        UserError: a named module cannot be imported. An installed package that cannot is left out
            with a warning.
    """
    known = [name for name in os.environ.get(ENVIRONMENT_VARIABLE, "").split(",") if name.strip()]
    wanted = list(dict.fromkeys([*map(str.strip, known), *names]))
    for name in wanted:
        _import(name)
    if names:
        os.environ[ENVIRONMENT_VARIABLE] = ",".join(wanted)
    _load_entry_points()


@functools.cache
def _load_entry_points() -> None:
    for entry in metadata.entry_points(group=ENTRY_POINTS):
        try:
            entry.load()
        except Exception as error:  # whatever a package of somebody else raises
            warnings.warn(
                f"The plugin {entry.value} of an installed package is left out: "
                f"{type(error).__name__}: {error}",
                stacklevel=2,
            )


def _import(name: str) -> None:
    try:
        importlib.import_module(name)
    except UserError:
        raise
    except ImportError as error:
        raise UserError(
            f"Cannot import the plugin {shown(name)}: {error}. Expected a module that Python finds "
            "from here, such as my_package.my_model."
        ) from error


def _check_name(name: Any) -> None:
    if not isinstance(name, str) or not name.replace("_", "").replace(".", "").isalnum():
        raise UserError(
            "Invalid value for `name`. Expected letters, digits, dots and underscores. "
            f"Received {shown(name)}."
        )


def _add(place: dict[str, Any], name: str, value: Any, kind: str) -> None:
    if name in place:
        raise UserError(
            f"Invalid name of a {kind}. Expected one that is free. Received {name!r}, which exists "
            "already."
        )
    place[name] = value
