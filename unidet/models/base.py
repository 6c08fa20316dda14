"""What every model offers: the interface that training, evaluation, export and parity use.

``Model`` is a network that :func:`unidet.create_model` makes. ``DetectionModel`` adds targets,
losses and predictions. ``ReadsText`` adds classes that are given as text embeddings.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from unidet.backends import nn, ops
from unidet.data.preprocess import Preprocess
from unidet.models.arguments import Arguments
from unidet.structures import Batch, Detections, Targets


class Model(nn.Module):
    """A network with a name and a config.

    A subclass sets :attr:`config_class` and takes the config as its only argument::

        class RetinaNet(DetectionModel):
            config_class = RetinaNetConfig

            def __init__(self, config: RetinaNetConfig) -> None:
                super().__init__(config)
                self.backbone = ResNet(config.depth)

    Users give a config or its arguments: ``RetinaNet(config)`` equals
    ``RetinaNet(num_classes=3, depth=18)``.

    Attributes:
        settings: the config.
        model_name: the name under which ``create_model`` makes the model.
        class_names: name of each label, or None where they are not known.
    """

    #: Type of the config.
    config_class: ClassVar[type[Arguments]] = Arguments
    #: Arguments that are part of the model's name and not of its stored arguments.
    named_arguments: ClassVar[tuple[str, ...]] = ()
    #: Whether :meth:`forward` takes ``image_sizes``.
    takes_image_sizes: ClassVar[bool] = False
    #: Whether :meth:`forward` takes ``proposals``.
    takes_proposals: ClassVar[bool] = False
    #: Whether :meth:`forward` takes ``dataset_ids``.
    takes_dataset_ids: ClassVar[bool] = False
    #: Whether :meth:`forward` cannot do without ``proposals``.
    needs_proposals: ClassVar[bool] = False
    #: Whether data sets of different classes may be mixed in training.
    mixes_classes: ClassVar[bool] = False
    #: Side in pixels of the only images that the model takes, or None for any size.
    image_resolution: int | None = None
    #: Tensors that loading a checkpoint leaves alone.
    kept_tensors: tuple[str, ...] = ()

    model_name: str
    class_names: tuple[str, ...] | None = None
    settings: Any

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        # What ``help`` and an interactive editor show: the arguments of the config.
        if "config_class" in cls.__dict__:
            arguments = inspect.signature(cls.config_class).parameters.values()
            backend = inspect.Parameter("backend", inspect.Parameter.KEYWORD_ONLY, default=None)
            keywords = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in arguments]
            cls.__signature__ = inspect.Signature([*keywords, backend])

    @classmethod
    def constructor_arguments(
        cls, args: tuple[Any, ...], options: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """A config that is made from keyword arguments, or the one that is given."""
        if args:
            known = isinstance(args[0], Arguments) or args[0] is None
            if not known and cls.config_class is not Arguments:
                raise TypeError(
                    f"Invalid argument of {cls.__name__}. Expected a {cls.config_class.__name__}, "
                    f"or its arguments by name. Received {args[0]!r}."
                )
            return args, options
        return (cls.config_class(**options),), {}

    def __init__(self, config: Any = None) -> None:
        super().__init__()
        self.settings = Arguments() if config is None else config
        self.class_names = getattr(config, "class_names", None)
        self.model_name = type(self).__name__

    @property
    def config(self) -> dict[str, Any]:
        """``{"name", "arguments"}``, from which ``create_model`` makes the model again."""
        values = self.settings.to_dict()
        arguments = {name: values[name] for name in self.accepted()}
        return {"name": self.model_name, "arguments": arguments}

    @classmethod
    def from_config(cls, config: Arguments, *, backend: str | None = None) -> Any:
        """A model of a config; ``RetinaNet.from_config(c)`` is ``RetinaNet(c)``.

        Args:
            config: of the type :attr:`config_class`.
            backend: ``"torch"`` or ``"jittor"``; see :func:`unidet.backends.resolve`.
        """
        make: Any = cls
        return make(config, backend=backend)

    @classmethod
    def accepted(cls) -> tuple[str, ...]:
        """Names of the arguments that ``create_model`` takes."""
        left_out = (*cls.named_arguments, *cls.config_class.fixed)
        return tuple(name for name in cls.config_class.names() if name not in left_out)

    def run(
        self,
        batch: Batch,
        *,
        like: Any = None,
        proposals: Sequence[np.ndarray] | None = None,
        network: Any = None,
    ) -> dict[str, Any]:
        """Raw outputs for a batch: calls :meth:`forward` with whatever it takes.

        Args:
            batch: images with their sizes.
            like: tensor whose backend and device the images take; a parameter by default.
            proposals: ``(n, 4)`` or, with scores, ``(n, 5)`` of each image in pixels of the
                input; those of the batch by default.
            network: a wrapper of the model that is called in its place, such as a compiled one.
        """
        if like is None:
            like = next(iter(nn.parameters(self).values()))
        call = self if network is None else network
        images = ops.asarray(batch.images, like=like)
        more: dict[str, Any] = {}
        if self.takes_image_sizes:
            more["image_sizes"] = batch.image_sizes
        if self.takes_proposals:
            more["proposals"] = list(batch.proposals) or None if proposals is None else proposals
        if self.takes_dataset_ids:
            more["dataset_ids"] = list(batch.dataset_ids) or None
        outputs: dict[str, Any] = call(images, **more)
        return outputs


class DetectionModel(Model):
    """A model that finds boxes.

    A subclass defines :meth:`forward`, :meth:`losses` and :meth:`predict`, and sets
    :attr:`preprocess`. Training calls :meth:`run` and :meth:`losses`; evaluation calls :meth:`run`
    and :meth:`predict`.

    Attributes:
        preprocess: how a photo becomes an input of the model.
    """

    #: Whether :meth:`propose` makes proposals.
    makes_proposals: ClassVar[bool] = False
    #: Whether :meth:`onnx_graph` builds a graph.
    exports_onnx: ClassVar[bool] = False

    preprocess: Preprocess

    def __init__(self, config: Any = None) -> None:
        super().__init__(config)
        self.preprocess = Preprocess.from_dict(getattr(config, "preprocess", {}))

    @property
    def config(self) -> dict[str, Any]:
        """``{"name", "arguments"}``, from which ``create_model`` makes the model again."""
        described = super().config
        arguments = {**described["arguments"], "preprocess": self.preprocess.to_dict()}
        return {**described, "arguments": arguments}

    def losses(self, outputs: dict[str, Any], targets: Sequence[Targets]) -> dict[str, Any]:
        """Loss terms with their weights, to be added up.

        Args:
            outputs: of :meth:`forward` in training mode.
            targets: objects of each image, in pixels of the input.

        Returns:
            Scalar tensors by name; each name begins with ``loss_``.

        Raises:
            ValueError: a label that the model cannot learn, or a wrong number of targets.
        """
        raise TypeError(f"{type(self).__name__} cannot be trained: it defines no `losses`.")

    def predict(self, outputs: dict[str, Any], batch: Batch) -> list[Detections]:
        """Detections of each image in pixels of the original, by falling score.

        Args:
            outputs: of :meth:`forward` in evaluation mode for ``batch.images``.
            batch: sizes and scales of the images.
        """
        raise TypeError(f"{type(self).__name__} cannot detect: it defines no `predict`.")

    def training_targets(self, outputs: dict[str, Any], targets: Sequence[Targets]) -> Any:
        """Targets of the outputs, as arrays: the part of the losses on the host.

        Needed only by a model whose losses ask :mod:`unidet.backends.parallel.batch_split` for
        counts that depend on its outputs.
        """
        return None

    def count(self, batch: Batch, *, like: Any = None) -> None:
        """Counts what the losses of a batch are divided by, before any of it is computed.

        By default the model runs once without gradient and with its norm statistics at rest, and
        :meth:`training_targets` counts. A model whose counts do not depend on its outputs
        overrides this.

        Args:
            batch: the part of a step that is counted.
            like: see :meth:`run`.
        """
        norms = [m for _, m in self.named_modules() if getattr(m, "running_mean", None) is not None]
        kept = [(norm, norm.momentum) for norm in norms if hasattr(norm, "momentum")]
        try:
            for norm, _ in kept:
                norm.momentum = 0.0
            with ops.no_grad():
                self.training_targets(self.run(batch, like=like), batch.targets)
        finally:
            for norm, momentum in kept:
                norm.momentum = momentum

    def measures(self, outputs: dict[str, Any], targets: Sequence[Targets]) -> dict[str, float]:
        """Numbers that validation watches and nothing trains on; none by default."""
        return {}

    def propose(
        self, outputs: dict[str, Any], train: bool = False
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Proposals ``(n, 4)`` of each image by falling score, and their probabilities.

        Args:
            outputs: of :meth:`forward`.
            train: keep as many as in training.
        """
        raise TypeError(f"{type(self).__name__} makes no proposals.")

    def onnx_graph(self, graph: Any, parts: Any, inputs: Any) -> tuple[Any, Any, Any]:
        """The model as an ONNX graph, from a photo to detections.

        Args:
            graph: :class:`unidet.export.graph.Graph` that the operators are added to.
            parts: :class:`unidet.export.parts.Parts`, which turns parts of the network into nodes.
            inputs: :class:`unidet.export.parts.Inputs` of the graph.

        Returns:
            Boxes ``(n, 4)`` in pixels of the original, scores and labels by falling score.
        """
        raise TypeError(f"{type(self).__name__} has no ONNX graph.")

    def label_range(self, dataset: int = 0) -> tuple[int, int]:
        """Lowest label that the model learns and one past the highest.

        Args:
            dataset: index of the data set, for a model with a vocabulary for each.
        """
        # torchvision's models keep slot 0 for the background, which is never a target.
        first = 1 if getattr(self.settings, "background_slot", None) == 0 else 0
        count = int(getattr(self.settings, "num_classes", 1))
        return (first if count > 1 else 0), count


@dataclass(frozen=True)
class ModelSpec:
    """How a named model is made.

    Attributes:
        constructor: class of the model.
        changes: arguments that the name stands for, where they differ from the config's defaults.
    """

    constructor: type[Model]
    changes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def accepts(self) -> tuple[str, ...]:
        """Names of the arguments that a user may give."""
        return self.constructor.accepted()

    @property
    def defaults(self) -> dict[str, Any]:
        """Every argument that the name stands for."""
        kind = self.constructor
        names = {*kind.accepted(), *kind.named_arguments, *kind.config_class.fixed}
        values = {**kind.config_class.defaults(), **self.changes}
        return {name: value for name, value in values.items() if name in names}


class ReadsText:
    """Second base of a detector whose classes are text embeddings, which a user can replace."""

    #: Number of classes of each vocabulary.
    sizes: tuple[int, ...]
    settings: Any

    def has_vocabulary(self) -> bool:
        """Whether any embedding differs from zero."""
        raise NotImplementedError

    def set_vocabulary(self, class_names: Sequence[str], embeddings: np.ndarray) -> None:
        """Replaces all vocabularies by one; the weights stay.

        Args:
            class_names: one for each row.
            embeddings: ``(C, embedding_dim)``, of any norm.
        """
        raise NotImplementedError

    def set_training_vocabularies(self, embeddings: Sequence[np.ndarray]) -> None:
        """Gives the embeddings ``(C_i, embedding_dim)`` of all vocabularies of the model."""
        raise NotImplementedError

    def using_vocabulary(
        self, class_names: Sequence[str], embeddings: np.ndarray
    ) -> AbstractContextManager[None]:
        """A context in which the model detects other classes; nothing is trained or saved."""
        raise NotImplementedError

    def set_scoring(self, **changes: Any) -> None:
        """Changes ``beta``, ``gamma``, ``class_prior`` or limits such as ``max_detections``."""
        raise NotImplementedError

    def scoring(self, **changes: Any) -> AbstractContextManager[None]:
        """A context in which :meth:`set_scoring` holds."""
        raise NotImplementedError

    def set_image_counts(self, counts: Sequence[np.ndarray | None]) -> None:
        """Tells in how many images of its data set each class occurs."""
        raise NotImplementedError


def require_one_each(received: Sequence[Any], count: int, name: str) -> None:
    """Refuses a list that has not one entry for each image.

    Raises:
        ValueError: names the argument and both lengths.
    """
    if len(received) != count:
        raise ValueError(
            f"Invalid value for `{name}`. Expected one for each of {count} images. "
            f"Received {len(received)}."
        )


def example_proposals(model: Model, image_sizes: Sequence[tuple[int, int]]) -> list[np.ndarray]:
    """Boxes of two sizes all over each image, for trials of a model that makes none itself.

    Args:
        model: a model of either backend.
        image_sizes: ``(height, width)`` of each image in pixels of the input.

    Returns:
        ``(34, 5)`` float32 of each image, with falling scores; an empty list for a model that
        needs none.
    """
    if not model.needs_proposals:
        return []
    corners = [
        (column / steps, row / steps, (column + 2) / steps, (row + 2) / steps)
        for steps in (4, 6)
        for row in range(steps - 1)
        for column in range(steps - 1)
    ]
    shares = np.array(corners, np.float32)
    scores = np.linspace(0.9, 0.1, len(shares), dtype=np.float32)[:, None]
    sides = [np.array([w, h, w, h], np.float32) for h, w in image_sizes]
    return [np.hstack([shares * own, scores]) for own in sides]


def merged(defaults: Mapping[str, Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """``defaults`` changed by ``arguments``; entries of ``preprocess`` each on their own."""
    chosen = {**defaults, **arguments}
    if isinstance(arguments.get("preprocess"), Mapping):
        chosen["preprocess"] = {**defaults.get("preprocess", {}), **arguments["preprocess"]}
    return chosen
