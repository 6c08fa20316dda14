"""Runs the model on one side and passes each array to a function, one at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from unidet.backends import nn, ops, optim
from unidet.backends.nn.module import neutral_class
from unidet.backends.registry import backend_of
from unidet.evaluation.run import evaluation_mode
from unidet.models.base import DetectionModel
from unidet.structures import Batch, Detections

#: Receives the kind ("layer", "output", "loss", "gradient", "detections", "proposals"), a name and
#: an array.
Sink = Callable[[str, str, np.ndarray], None]
#: Gives an array of the first side by its kind and name, or None.
Lookup = Callable[[str, str], "np.ndarray | None"]
#: Outputs that are handed over from side to side in place of being compared.
_PROPOSALS = ("proposals", "proposal_scores")
#: Proposals of an image that losses and gradients are compared on.
LEARNT = 64
_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.Identity)


def run_side(
    model: Any,
    batch: Batch,
    sink: Sink,
    *,
    gradients: bool = True,
    recorded: Lookup | None = None,
) -> None:
    """Runs a model on a batch and hands over what it computes.

    First the forward pass in evaluation mode with every layer's answer, the raw outputs and the
    kept detections; then, where the batch has targets, the losses and their gradients in training
    mode, where only dropout stays off, whose masks the frameworks draw differently. Norm
    statistics are restored afterwards.

    The second stage of a detector is compared on the proposals of the first side: where two scores
    are equal up to rounding, a side's own ones may come in another order, and rows would be
    compared with others' rows. The kept detections are those of the side's own proposals.

    Args:
        model: a model of either backend; left as it was.
        batch: images, and targets for the losses.
        sink: called with each array; nothing is kept here.
        gradients: whether losses and gradients are computed.
        recorded: of the second side: finds what the first one handed over.
    """
    before = nn.state_arrays(model)
    like = next(iter(nn.parameters(model).values()))
    with evaluation_mode(model):
        _forward(model, batch, like, sink, recorded)
        if (
            gradients
            and batch.targets
            and nn.trainable(model)
            and isinstance(model, DetectionModel)
        ):
            try:
                _losses(model, batch, like, sink, recorded)
            finally:
                nn.load_arrays(model, before)


def _forward(model: Any, batch: Batch, like: Any, sink: Sink, recorded: Lookup | None) -> None:
    given = _recorded_proposals(recorded, "test", len(batch))
    with ops.no_grad():
        handles = _watch(model, sink)
        try:
            outputs = model.run(batch, like=like, proposals=given)
        finally:
            for handle in handles:
                handle.remove()
        for name, array in flatten({k: v for k, v in outputs.items() if k not in _PROPOSALS}):
            sink("output", name, array)
        if given is not None and _makes_proposals(model):
            outputs = model.run(batch, like=like)
        elif recorded is None:
            _hand_over(outputs, "test", sink)
        for index, found in enumerate(_predict(model, outputs, batch)):
            sink("detections", str(index), pack_detections(found))


def _predict(model: Any, outputs: Any, batch: Batch) -> list[Detections]:
    """Kept detections; none of a model that only extracts or classifies."""
    return model.predict(outputs, batch) if isinstance(model, DetectionModel) else []


def _makes_proposals(model: Any) -> bool:
    return isinstance(model, DetectionModel) and model.makes_proposals


def _watch(model: Any, sink: Sink) -> list[Any]:
    """Hooks on all modules that compute something, in the order in which they finish."""
    calls: dict[str, int] = {}

    def watcher(name: str) -> Callable[..., None]:
        def hook(module: Any, inputs: Any, output: Any) -> None:
            calls[name] = calls.get(name, 0) + 1
            label = name if calls[name] == 1 else f"{name}#{calls[name]}"
            for path, array in flatten(output):
                sink("layer", f"{label}.{path}" if path else label, array)

        return hook

    return [
        module.register_forward_hook(watcher(name))
        for name, module in model.named_modules()
        if name and not issubclass(neutral_class(module), _CONTAINERS)
    ]


def _losses(model: Any, batch: Batch, like: Any, sink: Sink, recorded: Lookup | None) -> None:
    model.train()
    for _, module in model.named_modules():
        if issubclass(neutral_class(module), nn.Dropout):
            module.eval()
    optimizer = optim.create("sgd", model, lr=0.0)
    given = _recorded_proposals(recorded, "train", len(batch))
    outputs = model.run(batch, like=like, proposals=given)
    if "proposals" not in outputs and _makes_proposals(model):
        outputs["proposals"] = [_some(boxes) for boxes in model.propose(outputs, train=True)[0]]
    if recorded is None:
        _hand_over(outputs, "train", sink)
    losses = model.losses(outputs, batch.targets)
    total = None
    for value in losses.values():
        total = value if total is None else total + value
    for name, value in losses.items():
        sink("loss", name, np.asarray(ops.item(value), np.float64))
    optimizer.backward(total)
    found = optimizer.gradients()
    for name, parameter in nn.trainable(model).items():
        gradient = found.get(name)
        # torch has no gradient where Jittor has zeros: the parameter took no part.
        sink(
            "gradient",
            name,
            np.zeros(ops.shape(parameter), np.float32)
            if gradient is None
            else ops.to_numpy(gradient),
        )


def _some(boxes: np.ndarray) -> np.ndarray:
    """At most :data:`LEARNT` of the proposals, from all levels and scores.

    A head that begins with convolutions would take minutes for all, and show nothing more.
    """
    if len(boxes) <= LEARNT:
        return boxes
    return boxes[np.linspace(0, len(boxes) - 1, LEARNT).astype(int)]


def _hand_over(outputs: Mapping[str, Any], mode: str, sink: Sink) -> None:
    """Proposals ``(n, 4)`` or, where they have scores, ``(n, 5)`` of each image."""
    scores = outputs.get("proposal_scores")
    for index, boxes in enumerate(outputs.get("proposals", ())):
        rows = boxes if scores is None else np.column_stack([boxes, scores[index]])
        sink("proposals", f"{mode}.{index}", rows)


def _recorded_proposals(recorded: Lookup | None, mode: str, images: int) -> list[np.ndarray] | None:
    if recorded is None:
        return None
    found = [recorded("proposals", f"{mode}.{index}") for index in range(images)]
    return None if any(boxes is None for boxes in found) else found  # type: ignore[return-value]


def flatten(value: Any, path: str = "") -> Iterator[tuple[str, np.ndarray]]:
    """Arrays of nested dicts, lists and tuples of tensors and numbers, with their paths."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from flatten(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, (list, tuple)) and value and all(map(_is_number, value)):
        yield path, np.asarray(value)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from flatten(item, f"{path}.{index}" if path else str(index))
    elif _is_number(value) or isinstance(value, np.ndarray):
        yield path, np.asarray(value)
    elif value is not None and not isinstance(value, str):
        try:
            backend_of(value)
        except TypeError:
            fields = getattr(value, "__dict__", None)
            if fields:
                yield from flatten(fields, path)
            return
        yield path, ops.to_numpy(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (bool, int, float, np.generic))


def pack_detections(found: Detections) -> np.ndarray:
    """``(n, 6)`` float64: corners, score, label."""
    columns = [found.boxes_xyxy, found.scores[:, None], found.labels[:, None]]
    return np.concatenate([c.astype(np.float64) for c in columns], axis=1)


def unpack_detections(array: np.ndarray) -> Detections:
    """Inverse of :func:`pack_detections`."""
    return Detections(
        array[:, :4].astype(np.float32),
        array[:, 4].astype(np.float32),
        array[:, 5].astype(np.int64),
    )
