"""Published checkpoints to native ones and back: renames, checks, and what a model must know."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from unidet.checkpoints.conventions import differences
from unidet.checkpoints.native import (
    Checkpoint,
    load_checkpoint,
    parse_checkpoint,
    write_checkpoint,
)
from unidet.errors import UserError
from unidet.files.atomic import atomic_path
from unidet.files.reading import parse_json
from unidet.weights_convert import (
    FAMILIES,
    CheckpointError,
    ContainerInfo,
    Family,
    State,
    TensorReport,
    container_for,
    detect_family,
    family_named,
    find_state,
    read_container,
    write_jittor,
    write_safetensors,
    write_torch,
)
from unidet.weights_convert.families import (
    Mapped,
    contradiction,
    looks_like,
    read_state,
    weights_in,
    with_style,
    written_config,
)
from unidet.weights_convert.families.labels import known_names
from unidet.weights_convert.families.sidecar import WEIGHTS

#: Begin of the names of models that find nothing in a picture.
_NO_DETECTORS = ("resnet", "clip_")


@dataclass
class Imported:
    """A published checkpoint in native form.

    Attributes:
        checkpoint: Weights under native names and all that rebuilds the model.
        family: Name of the family.
        container: The file's container.
        report: What became of every tensor.
    """

    checkpoint: Checkpoint
    family: str
    container: ContainerInfo
    report: TensorReport = field(repr=False)


def read_published(
    path: str | Path,
    *,
    family: str | None = None,
    class_names: Sequence[str] | None = None,
    strict: bool = True,
    rescue: bool = False,
    state: str | None = None,
) -> Imported:
    """Reads a checkpoint of another library.

    Args:
        path: The file, of any supported container, or the folder of a model of Hugging Face.
        family: A key of ``FAMILIES``; found from the tensors by default.
        class_names: One for each output; the file's own or the published label space by default.
        strict: Refuse missing, unexpected and misshapen tensors.
        rescue: Read pickles of whole objects for their tensors; nothing of theirs runs.
        state: Which of several states to take: its keys joined with dots, or its prefix.

    Raises:
        UserError: a damaged or foreign file, another family, several states, or a wrong number
            of names.
    """
    path = weights_in(path)
    found, info = read_state(path, rescue=rescue, state=state)
    if "unidet" in info.metadata:
        raise CheckpointError(
            f"Invalid source {path}. It is a checkpoint of unidet and needs no import."
        )
    chosen, remark = _family(family, found, str(path))
    mapped = chosen.to_native(found.arrays, strict=strict, source=str(path), extras=found.extras)
    mapped.report.notes[:0] = [*info.notes, *([remark] if remark else [])]
    arguments = dict(mapped.description["arguments"])
    names, remark = _names(chosen, mapped, found, class_names, path)
    mapped.report.notes += [remark] if remark else []
    model, preprocess = _describe(mapped.description["name"], arguments, names)
    source = {
        "file": Path(path).name,
        "container": info.kind,
        "family": chosen.name,
        "form": mapped.form,
        "reinitialised": list(mapped.reinitialised),
    }
    if mapped.float16_names:
        source["halves"] = list(mapped.float16_names)
    if chosen.sidecar and chosen.sidecar.name in found.extras:
        source["neighbour"] = found.extras[chosen.sidecar.name]
    checkpoint = Checkpoint(mapped.arrays, model, names, preprocess, source)
    return Imported(checkpoint, chosen.name, info, mapped.report)


def import_checkpoint(
    source: str | Path, destination: str | Path, *, overwrite: bool = False, **options: Any
) -> Imported:
    """Turns a published checkpoint into a native one.

    Args:
        source: The published file.
        destination: A ``.safetensors`` file.
        overwrite: Whether it may be replaced.
        options: Of :func:`read_published`.

    Raises:
        UserError: see :func:`read_published`; or the destination exists.
        RunFailedError: the disk refused the write.
    """
    if container_for(destination) != "safetensors":
        raise UserError(
            f"Invalid destination {destination}. Expected a name that ends in .safetensors."
        )
    found = read_published(source, **options)
    write_checkpoint(destination, found.checkpoint, overwrite=overwrite)
    return found


def export_checkpoint(
    source: str | Path,
    destination: str | Path,
    *,
    family: str,
    form: str | None = None,
    overwrite: bool = False,
) -> TensorReport:
    """Writes a native checkpoint under the names of a published family; no value changes.

    float16 that an import widened is float16 again, where that loses nothing.

    Args:
        source: A native checkpoint; one that went through ``pt2jt`` will do.
        destination: .pth, .pt or .bin (PyTorch), .pkl (Jittor) or .safetensors; for Hugging Face
            also an existing folder. What belongs beside the weights is written there too.
        family: A key of ``FAMILIES``. The model must follow that peer's conventions.
        form: Which of the family's namings; the origin's, or the first, by default.
        overwrite: Whether the destination may be replaced.

    Raises:
        UserError: the model is of other conventions, or the destination does not fit.
        RunFailedError: the disk refused the write.
    """
    chosen = family_named(family)
    if chosen.sidecar and Path(destination).is_dir():
        destination = Path(destination) / WEIGHTS[0]
    kind = container_for(destination)
    checkpoint = read_native(source)
    _check_conventions(chosen, checkpoint.model, str(source))
    origin = checkpoint.source if checkpoint.source.get("family") == family else {}
    fitting = chosen.form_for(checkpoint.model["name"])
    form = form or origin.get("form") or (fitting.name if fitting else None)
    state, report = chosen.from_native(
        checkpoint.arrays,
        form=form,
        without=tuple(origin.get("reinitialised", ())),
        float16_names=tuple(origin.get("halves", ())),
        source=str(source),
    )
    carried = chosen.sidecar.tells if chosen.sidecar else frozenset()
    report.notes += _deviations(checkpoint.model, carried)
    if chosen.sidecar is None:
        _write(chosen, checkpoint, kind, state, destination, overwrite)
        return report
    same = origin.get("form") == form
    content, remarks = chosen.sidecar.write(
        checkpoint.model,
        checkpoint.class_names,
        form or "",
        origin.get("neighbour", {}) if same else {},
    )
    report.notes += remarks
    beside = Path(destination).parent / chosen.sidecar.name
    # It appears once the weights are whole.
    with atomic_path(beside, overwrite=overwrite) as temporary:
        temporary.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        _write(chosen, checkpoint, kind, state, destination, overwrite)
    report.notes.append(f"{beside} is written beside the weights")
    return report


def _write(
    family: Family,
    checkpoint: Checkpoint,
    kind: str,
    state: dict[str, np.ndarray],
    destination: str | Path,
    overwrite: bool,
) -> None:
    if kind == "safetensors":
        write_safetensors(destination, state, overwrite=overwrite)
        return
    tree: dict[str, Any] = dict(state)
    if family.wrapper:
        tree = {**_others(family, checkpoint), family.wrapper: state}
    write = write_jittor if kind == "jittor" else write_torch
    write(destination, tree, overwrite=overwrite)


def read_native(path: str | Path) -> Checkpoint:
    """A native checkpoint, also from a container that ``pt2jt`` or ``jt2pt`` has put it in.

    Raises:
        UserError: no such file, damaged, or not unidet's.
    """
    if Path(path).suffix == ".safetensors":
        return load_checkpoint(path)
    tree, info = read_container(path)
    metadata = parse_json(info.metadata.get("unidet", "{}"), path, "Metadata of a checkpoint")
    if not metadata or not isinstance(metadata, dict):
        raise CheckpointError(
            f"Invalid checkpoint {path}. Expected a checkpoint of unidet. Received "
            f"another {info.title}."
        )
    arrays: dict[str, np.ndarray] = find_state(tree, source=str(path)).arrays
    return parse_checkpoint(arrays, metadata, source=path)


def model_and_weights(
    path: str | Path, **options: Any
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Model config and native arrays of a native checkpoint or of one of a known family.

    Args:
        path: The file.
        options: Of :func:`read_published`.

    Raises:
        UserError: it is neither, or damaged.
    """
    path = weights_in(path)
    _, info = read_container(path, rescue=bool(options.get("rescue")))
    if "unidet" in info.metadata:
        checkpoint = read_native(path)
    else:
        checkpoint = read_published(path, **options).checkpoint
    return checkpoint.model, checkpoint.arrays


def _names(
    family: Family, mapped: Mapped, state: State, asked: Sequence[str] | None, path: str | Path
) -> tuple[tuple[str, ...], str]:
    """Class names of an imported model and how they are known."""
    arguments = mapped.description["arguments"]
    # Of several vocabularies the first is detected.
    count = (arguments.get("vocabulary_sizes") or (arguments.get("num_classes", 0),))[0]
    if asked is not None and len(asked) != count:
        raise UserError(f"Invalid class names for {path}. Expected {count}. Received {len(asked)}.")
    if asked is not None or mapped.preset is None:
        return tuple(asked or ()), ""
    if not count:
        from unidet.models import model_spec

        names = tuple(model_spec(mapped.description["name"]).defaults["class_names"])
        return names, "the model does not name what it finds"
    slot = 0 if arguments.get("background_slot") == 0 else None
    return known_names(family.slots, count, state.extras, background_slot=slot)


def _family(name: str | None, state: State, source: str) -> tuple[Family, str]:
    """The family of a file and a remark on its style."""
    if name is None:
        return with_style(detect_family(state.arrays, source=source), FAMILIES, state.extras)
    chosen = family_named(name)
    if not chosen.matches({key: array.shape for key, array in state.arrays.items()}):
        raise CheckpointError(
            f"Invalid checkpoint {source}. Expected {chosen.title} ({name}). "
            f"Received {looks_like(state.arrays)}."
        )
    return chosen, contradiction(chosen, FAMILIES, state.extras)


def full_arguments(description: Mapping[str, Any]) -> dict[str, Any]:
    """Every argument of the model that a description stands for, its conventions included.

    Args:
        description: ``name`` of a detector and the ``arguments`` that differ from it.
    """
    # Imported here: reading and renaming need no model code.
    from unidet.data.preprocess import Preprocess
    from unidet.models import model_spec

    spec = model_spec(description["name"])
    config = spec.constructor.config_class(**{**spec.defaults, **description["arguments"]})
    settings = config.to_dict()
    full = {key: value for key, value in settings.items() if key in spec.accepts}
    full["preprocess"] = Preprocess(**settings["preprocess"]).to_dict()
    return full


def _describe(
    name: str, arguments: dict[str, Any], names: tuple[str, ...]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The model's config with every convention spelt out, and its preprocessing."""
    if name.startswith(_NO_DETECTORS):
        return {"name": name, "arguments": arguments}, _own_preprocess(name)
    if names:
        arguments["class_names"] = names
    full = full_arguments({"name": name, "arguments": arguments})
    return {"name": name, "arguments": full}, full["preprocess"]


def _own_preprocess(name: str) -> dict[str, Any]:
    """Of a network that is no detector and has no say in how pictures are resized."""
    from unidet.data.preprocess import PRESETS, Preprocess

    if name.startswith("resnet"):
        return Preprocess().to_dict()
    return Preprocess(**{**PRESETS["unidetector"], "resize": "none"}).to_dict()


def _check_conventions(family: Family, model: Mapping[str, Any], source: str) -> None:
    name = model["name"]
    if family.takes_model(name):
        return
    possible = [key for key, other in FAMILIES.items() if other.takes_model(name)]
    hint = f" Its family is {possible[0]}." if possible else " `convert jt2pt` keeps native names."
    raise UserError(
        f"Invalid source {source} for {family.name}. Expected a model with the conventions of "
        f"{family.title}. Received {name}.{hint}"
    )


def _deviations(model: Mapping[str, Any], carried: frozenset[str]) -> list[str]:
    """Remarks on conventions that an export cannot carry; ``carried`` are those that it does."""
    from unidet.models import model_spec

    name = model["name"]
    spec = model_spec(name)
    about = spec.constructor.config_class.about()
    published: Mapping[str, Any] = spec.defaults
    if not name.startswith(_NO_DETECTORS):
        published = full_arguments({"name": name, "arguments": {}})
    changed = [
        f"{key} {own!r} (published: {theirs!r})"
        for key, own, theirs in differences(model.get("arguments", {}), published, about)
        if key not in carried
    ]
    return [f"the reader must be told: {', '.join(changed)}"] if changed else []


def _others(family: Family, checkpoint: Checkpoint) -> dict[str, Any]:
    """What the peer's files hold beside the weights, as far as its readers want it."""
    if family.wrapper == "state_dict":
        slot = checkpoint.model.get("arguments", {}).get("background_slot")
        names = tuple(checkpoint.class_names)[0 if slot is None else 1 :]
        return {"meta": {"CLASSES": names, "config": written_config(family)}}
    return dict(family.constants)
