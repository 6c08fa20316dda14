"""Files of CLIP's layouts, made from the names and shapes of OpenAI's."""

from __future__ import annotations

import re
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from unidet.weights_convert.pickle_writer import Call, Global, Persistent, PickleWriter

State = dict[str, np.ndarray]
#: Golden folder: family, form, model, arguments.
DETECTORS: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "unidetector_e2e": ("unidetector_e2e", "", "unidetector_e2e_r50_c4", {"num_classes": 60}),
    "unidetector_stage2": (
        "unidetector_stage2",
        "",
        "unidetector_stage2_r50_c4",
        {"num_classes": 60},
    ),
    "unidetector_partitioned": (
        "unidetector_partitioned",
        "stage2",
        "unidetector_stage2_r50_c4",
        {"num_classes": 60, "vocabulary_sizes": (25, 60)},
    ),
    "unidetector_cln": ("unidetector_cln", "", "unidetector_cln_r50_fpn", {}),
}
#: What OpenAI's conversion makes float16: convolutions, linear layers, attention, projections.
_HALF = re.compile(
    r".*(conv\d|downsample\.0|[qkvc]_proj|out_proj|c_fc)\.(weight|bias)|.*in_proj_\w+|text_projection"
)
#: What RegionCLIP's pretraining holds beside the visual tower.
_BESIDE = (
    "lang_encoder.token_embedding.weight",
    "lang_encoder.transformer.resblocks.0.ln_1.weight",
    "teacher_backbone.conv1.weight",
    "offline_backbone.bottom_up.stem.conv1.weight",
    "offline_proposal_generator.rpn_head.conv.weight",
    "teacher_roi_heads.box_predictor.cls_score.weight",
    "roi_heads.box_predictor.bbox_pred.weight",
)


def with_zero_background(state: State) -> State:
    """The same with a last column of zeros in every vocabulary."""
    out = dict(state)
    for name in state:
        if "zs_weights" in name:
            out[name] = state[name].copy()
            out[name][:, -1] = 0
    return out


def tower(clip: State) -> State:
    """The visual tower without a prefix."""
    prefix = "visual."
    return {k.removeprefix(prefix): v for k, v in clip.items() if k.startswith(prefix)}


def clip_archive(clip: State, *, derived: bool = True) -> State:
    """OpenAI's archive: float16 where theirs is, and the numbers beside the weights."""
    state = {
        key: array.astype(np.float16) if _HALF.fullmatch(key) else array
        for key, array in clip.items()
    }
    numbers = {"input_resolution": 224, "context_length": 77, "vocab_size": 49408}
    return {**state, **({k: np.array(v) for k, v in numbers.items()} if derived else {})}


def without_counters(state: State) -> State:
    """The same with frozen norms."""
    return {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}


def regionclip(visual: State) -> dict[str, Any]:
    """RegionCLIP's own file."""
    model = {f"backbone.{key}": value for key, value in without_counters(visual).items()}
    model.update((key, np.zeros((2, 3), np.float32)) for key in _BESIDE)
    return {"model": model, "iteration": 5}


def regionclip_mmdet(visual: State, *, counters: bool = True) -> dict[str, Any]:
    """The file that UniDetector starts from."""
    heads = {"layer4": "roi_head.shared_head.", "attnpool": "roi_head.bbox_head."}
    state = visual if counters else without_counters(visual)
    return {
        "meta": {},
        "state_dict": {
            f"{heads.get(key.split('.')[0], 'backbone.')}{key}": value
            for key, value in state.items()
        },
    }


def write_torchscript(path: Path, state: State, root: str = "RN50") -> None:
    """An archive as ``torch.jit.save`` lays it out: an object for each module, code, constants."""
    tree: dict[str, Any] = {}
    for name, array in state.items():
        *parents, last = name.split(".")
        place = tree
        for parent in parents:
            place = place.setdefault(parent, {"training": False})
        place[last] = array
    stored: list[np.ndarray] = []
    pickled = b"\x80\x02" + _module(tree, ["__torch__"], stored) + b"."
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{root}/version", b"3\n")
        archive.writestr(f"{root}/data.pkl", pickled)
        archive.writestr(f"{root}/code/__torch__.py", b"raise SystemExit('never run')\n")
        archive.writestr(f"{root}/constants.pkl", b"\x80\x02).")
        for i, array in enumerate(stored):
            archive.writestr(f"{root}/data/{i}", array.tobytes())


def _module(tree: dict[str, Any], path: list[str], stored: list[np.ndarray]) -> bytes:
    parts = [f"c{'.'.join(path)}\nModule\n".encode(), b")\x81}("]
    for key, value in tree.items():
        parts.append(b"X" + struct.pack("<I", len(key)) + key.encode())
        if isinstance(value, dict):
            parts.append(_module(value, [*path, f"m{key}"], stored))
        else:
            writer = PickleWriter(2, lambda array: _tensor(array, stored))
            parts.append(writer.dump(value)[2:-1])
    return b"".join([*parts, b"ub"])


def _tensor(array: np.ndarray, stored: list[np.ndarray]) -> Call:
    kinds = {"float16": "Half", "float32": "Float", "int64": "Long"}
    kind = Global("torch", f"{kinds[array.dtype.name]}Storage")
    whole = np.ascontiguousarray(array)
    stored.append(whole)
    storage = Persistent(("storage", kind, str(len(stored) - 1), "cuda:0", array.size))
    strides = tuple(step // array.itemsize for step in whole.reshape(array.shape).strides)
    hooks = Call(Global("collections", "OrderedDict"), ())
    function = Global("torch._utils", "_rebuild_tensor_v2")
    return Call(function, (storage, 0, array.shape, strides, False, hooks))
