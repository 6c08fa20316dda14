"""Writing a model as one ONNX file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import unidet
from unidet.backends import BackendNotAvailableError, available, nn
from unidet.errors import UserError
from unidet.export.graph import Graph, Value
from unidet.export.packages import onnx_package
from unidet.export.parts import Inputs, Parts
from unidet.files.atomic import atomic_path, check_target
from unidet.models import create_from
from unidet.models.base import DetectionModel, Model, ReadsText

#: Versions of the operators that a file may ask for.
OPSETS = range(16, 21)
DEFAULT_OPSET = 17
#: Of the metadata.
FORMAT_VERSION = 1
#: Largest file that the format allows, in bytes.
LARGEST = 2**31 - 1


def export_onnx(
    model: Any,
    path: str | Path,
    *,
    opset: int = DEFAULT_OPSET,
    overwrite: bool = False,
    class_names: Sequence[str] | None = None,
) -> Path:
    """Writes a model with all that follows it, up to final detections, as one ONNX file.

    Args:
        model: a detector of either backend, or a :class:`unidet.Detector`; it stays as it is.
        path: destination, complete or not there at all.
        opset: version of the ONNX operators, one of :data:`OPSETS`.
        overwrite: replace an existing file.
        class_names: of the labels; the model's own by default.

    Returns:
        The path.

    Raises:
        UserError: a package is missing, the model finds no boxes or has no vocabulary, or the
            destination may not be written.
        ValueError: another opset.
        BackendNotAvailableError: PyTorch is not installed.
        RunFailedError: the disk refused the write.
    """
    check_target(Path(path), overwrite=overwrite)
    content = onnx_bytes(model, opset=opset, class_names=class_names)
    return write_onnx(content, path, overwrite=overwrite)


def write_onnx(content: bytes, path: str | Path, *, overwrite: bool = False) -> Path:
    """Writes what :func:`onnx_bytes` made.

    Raises:
        UserError, RunFailedError: see :func:`export_onnx`.
    """
    with atomic_path(path, overwrite=overwrite) as temporary:
        temporary.write_bytes(content)
    return Path(path)


def onnx_bytes(
    model: Any, *, opset: int = DEFAULT_OPSET, class_names: Sequence[str] | None = None
) -> bytes:
    """The content of the file; see :func:`export_onnx`."""
    from unidet.detector import Detector, check_vocabulary

    detector = model if isinstance(model, Detector) else None
    if detector is not None:
        class_names = class_names or detector.class_names
        model = detector.model
    if opset not in OPSETS:
        raise ValueError(
            f"Invalid value for `opset`. Expected {OPSETS[0]} to {OPSETS[-1]}. Received {opset!r}."
        )
    if not (isinstance(model, DetectionModel) and model.exports_onnx):
        name = model.config["name"] if isinstance(model, Model) else type(model).__name__
        raise UserError(
            "Invalid value for `model`. Expected a RetinaNet, DETR, Faster R-CNN, Fast R-CNN or "
            f"UniDetector. Received {name}."
        )
    check_vocabulary(model)
    onnx = onnx_package()
    preprocess = (detector or model).preprocess
    names = tuple(class_names or model.class_names or ())
    graph = Graph(opset)
    inputs, described = _inputs(graph, model)
    found = model.onnx_graph(graph, Parts(_on_torch(model), opset), inputs)
    proto = _assembled(graph, described, found)
    onnx.helper.set_model_props(
        proto,
        {
            "unidet": json.dumps(
                {
                    "format_version": FORMAT_VERSION,
                    "unidet_version": unidet.__version__,
                    "model": model.config,
                    "class_names": list(names),
                    "preprocess": preprocess.to_dict(),
                }
            ),
            "class_names": "\n".join(names),
        },
    )
    if proto.ByteSize() > LARGEST:
        raise UserError(
            "Invalid model. Expected one of less than 2 GiB, as an ONNX file holds at most. "
            f"Received {proto.ByteSize()} bytes."
        )
    onnx.checker.check_model(proto)
    content: bytes = proto.SerializeToString()
    return content


def _on_torch(model: Any) -> Any:
    """A copy on PyTorch and the CPU, whichever framework the model belongs to."""
    if "torch" not in available():
        raise BackendNotAvailableError(
            "Backend 'torch' is not installed, and it writes ONNX files for models of either "
            "framework. Install it: pip install 'unidet[torch,export]'."
        )
    config = model.config
    copy = create_from(config["name"], config["arguments"], backend="torch", seed=None)
    nn.load_arrays(copy, nn.state_arrays(model))
    return copy


def _inputs(graph: Graph, model: Any) -> tuple[Inputs, list[Any]]:
    """Inputs of the graph as values, and as the file describes them."""
    table: dict[str, tuple[str, list[int | str]]] = {
        "image": ("float32", [1, 3, "height", "width"]),
        "image_size": ("int64", [2]),
        "scale": ("float32", [2]),
    }
    if model.needs_proposals:
        table["proposals"] = ("float32", ["proposals", 4])
        if isinstance(model, ReadsText) and model.settings.beta is not None:
            table["proposal_scores"] = ("float32", ["proposals"])
    described = [_described(name, kind, shape) for name, (kind, shape) in table.items()]
    return Inputs(
        **{name: Value(graph, name, kind) for name, (kind, _) in table.items()}
    ), described


def _described(name: str, kind: str, shape: list[int | str]) -> Any:
    helper = onnx_package().helper
    return helper.make_tensor_value_info(
        name, helper.np_dtype_to_tensor_dtype(np.dtype(kind)), shape
    )


def _assembled(graph: Graph, inputs: list[Any], found: Sequence[Value]) -> Any:
    helper = onnx_package().helper
    shapes: dict[str, list[int | str]] = {
        "boxes_xyxy": ["detections", 4],
        "scores": ["detections"],
        "labels": ["detections"],
    }
    outputs = []
    for (name, shape), value in zip(shapes.items(), found):
        graph.nodes.append(helper.make_node("Identity", [value.name], [name], name))
        outputs.append(_described(name, value.kind, shape))
    body = helper.make_graph(graph.nodes, "unidet", inputs, outputs, graph.constants)
    imports = [helper.make_opsetid("", graph.opset)]
    return helper.make_model(
        body,
        producer_name="unidet",
        producer_version=unidet.__version__,
        opset_imports=imports,
        # The oldest form that has these operators, for older runtimes.
        ir_version=helper.find_min_ir_version_for(imports),
    )
