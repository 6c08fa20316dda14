"""UniDetector against the outputs of the official code."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.golden.support import Golden, as_targets, losses_and_norms, matched_share, padded_batch
from unidet.backends import backend_of, nn, ops
from unidet.models import create_model
from unidet.models.unidetector.box_head import cosine_logits
from unidet.models.unidetector.federated import draw_classes
from unidet.structures import Batch
from unidet.weights_convert import FAMILIES
from unidet.weights_convert.families.rename import rename

#: A quota that no population reaches, so that nothing is drawn.
ALL = {"roi_batch": 10**7, "roi_positive_fraction": 0.5}
#: All sides of the official run were scaled so.
SCALE = (1.25, 1.25)


@pytest.fixture(autouse=True)
def _tidy() -> Iterator[None]:
    yield
    gc.collect()


def build(golden: Golden, family: str, backend: str, **changes: Any) -> tuple[Any, Any]:
    """The model that the peer's file is imported as, with its weights, and the table of names."""
    state = golden.state(zero_background=True)
    chosen = FAMILIES[family]
    mapped = chosen.to_native(state)
    arguments = {**mapped.description["arguments"], **changes}
    model = create_model(mapped.description["name"], backend=backend, seed=None, **arguments)
    nn.load_arrays(model, mapped.arrays)
    return model, chosen.form_of({key: value.shape for key, value in state.items()}).table


def make_batch(model: Any, golden: Golden, indices: list[int], **more: Any) -> Batch:
    p = model.preprocess
    mean, std = np.asarray(p.mean, np.float32), np.asarray(p.std, np.float32)
    images = [(golden.image(i).astype(np.float32) - mean) / std for i in indices]
    sides = np.array([image.shape[:2] for image in images])
    size = tuple((-(-sides.max(axis=0) // 32) * 32).tolist())
    batch = padded_batch(
        [image.transpose(2, 0, 1) for image in images], size, [SCALE] * len(images)
    )
    for key, value in more.items():
        setattr(batch, key, value)
    return batch


def run(model: Any, batch: Batch) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Outputs in evaluation mode and what the parts of the head answered."""
    seen: dict[str, Any] = {}

    def keep(name: str) -> Any:
        return lambda module, inputs, output: seen.__setitem__(name, output)

    parts = {"backbone": model.backbone, "layer4": model.head.layer4}
    parts["attnpool"] = model.head.attnpool
    handles = [part.register_forward_hook(keep(name)) for name, part in parts.items()]
    with ops.no_grad():
        outputs = model.run(batch)
    for handle in handles:
        handle.remove()
    return outputs, {
        name: ops.to_numpy(value[-1] if isinstance(value, tuple) else value)
        for name, value in seen.items()
    }


def check_losses(golden: Golden, prefix: str, found: dict[str, float]) -> None:
    for name, key in (("loss_cls", "loss_cls"), ("loss_box", "loss_bbox")):
        assert found[name] == pytest.approx(float(golden[f"{prefix}/{key}"]), rel=1e-3), name


def check_gradients(golden: Golden, prefix: str, table: Any, norms: dict[str, float]) -> None:
    keys = [key for key in golden.outputs.files if key.startswith(f"{prefix}/")]
    assert keys
    for key in keys:
        name = rename(key.removeprefix(f"{prefix}/"), table)
        assert norms[name] == pytest.approx(float(golden[key]), rel=5e-3), key


@pytest.mark.parametrize("index", [0, 1])
def test_second_stage(sample_data: Path, backend: str, index: int) -> None:
    golden = Golden(sample_data, "unidetector_stage2")
    model, table = build(
        golden,
        "unidetector_stage2",
        backend,
        max_detections=200,
        federated_classes=0,
        **ALL,
    )
    batch = make_batch(model, golden, [index], proposals=[golden[f"{index}/proposals_in"]])
    outputs, seen = run(model, batch)
    golden.check(f"{index}/backbone_layer3", seen["backbone"])
    golden.check(f"{index}/layer4", seen["layer4"])
    golden.check(f"{index}/attnpool", seen["attnpool"])
    logits = ops.to_numpy(outputs["cls_logits"])
    np.testing.assert_allclose(logits, golden[f"{index}/cls_logits"], atol=5e-3)
    np.testing.assert_allclose(
        ops.to_numpy(outputs["box_deltas"]), golden[f"{index}/bbox_pred"], rtol=1e-3, atol=1e-4
    )
    counts = golden["calibration_counts"]
    cases: dict[str, dict[str, Any]] = {
        "nocal": {"beta": 0.3},
        "cal": {"beta": 0.3, "gamma": 0.6, "class_prior": tuple(int(n) for n in counts)},
        "plain": {"beta": None},
    }
    for case, scoring in cases.items():
        model.set_scoring(**{"beta": None, "gamma": None, "class_prior": None, **scoring})
        if case != "plain":
            np.testing.assert_allclose(
                model.scores(outputs)[:, :-1], golden[f"{index}/{case}/scores"][:, :-1], atol=2e-3
            )
        found = model.predict(outputs, batch)[0]
        rows, labels = golden[f"{index}/{case}/det"], golden[f"{index}/{case}/det_labels"]
        assert len(found) == len(rows)
        assert matched_share(found, rows[:, :4], rows[:, 4], labels) >= 0.98

    model.set_scoring(beta=None, gamma=None, class_prior=None)
    targets = as_targets(golden[f"target{index}/boxes"], golden[f"target{index}/labels"])
    batch.targets = [targets]
    found, norms = losses_and_norms(model, batch)
    check_losses(golden, f"loss{index}", found)
    check_gradients(golden, f"gradnorm{index}", table, norms)


def test_end_to_end(sample_data: Path, backend: str) -> None:
    golden = Golden(sample_data, "unidetector_e2e")
    model, _ = build(golden, "unidetector_e2e", backend, rpn_post_nms_test=40)
    for index in range(2):
        batch = make_batch(model, golden, [index])
        outputs, seen = run(model, batch)
        golden.check(f"{index}/backbone_layer3", seen["backbone"])
        for key, name, depth in (("rpn_cls", "rpn_logits", 15), ("rpn_reg", "rpn_deltas", 60)):
            _, (shape,) = outputs["layout"]
            maps = ops.to_numpy(outputs[name]).reshape(1, *shape, depth).transpose(0, 3, 1, 2)
            golden.check(f"{index}/{key}", maps)
        proposals = golden[f"{index}/proposals"]
        assert len(outputs["proposals"][0]) == len(proposals)
        np.testing.assert_allclose(outputs["proposals"][0], proposals[:, :4], atol=0.05)
        np.testing.assert_allclose(outputs["proposal_scores"][0], proposals[:, 4], atol=2e-3)
        found = model.predict(outputs, batch)[0]
        rows, labels = golden[f"det{index}"], golden[f"det{index}/labels"]
        assert len(found) == len(rows)
        assert matched_share(found, rows[:, :4], rows[:, 4], labels) >= 0.98


@pytest.mark.slow_on("torch")
def test_partitioned(sample_data: Path, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    golden = Golden(sample_data, "unidetector_partitioned")
    model, table = build(golden, "unidetector_partitioned", backend, **ALL)
    for case in ("plain", "frequencies", "swapped", "no_draw"):
        batch = make_batch(
            model,
            golden,
            [0, 1],
            proposals=[golden[f"{i}/proposals_in"] for i in range(2)],
            dataset_ids=golden[f"{case}/dataset_ids"].tolist(),
            targets=[
                as_targets(golden[f"target{i}/boxes"], golden[f"{case}/labels{i}"])
                for i in range(2)
            ],
        )
        if case == "plain":
            check_both_vocabularies(golden, model, batch)
        with monkeypatch.context() as patch:
            check_case(golden, model, batch, case, table, patch)


def check_both_vocabularies(golden: Golden, model: Any, batch: Batch) -> None:
    outputs, seen = run(model, batch)
    for name in ("layer4", "attnpool"):
        golden.check(name, seen[name])
    with ops.no_grad():
        vectors = ops.asarray(seen["attnpool"], backend=backend_of(model))
        for i in range(2):
            logits = ops.to_numpy(cosine_logits(vectors, model.head.text(i)))
            np.testing.assert_allclose(logits, golden[f"cls_logits{i}"], atol=5e-3)
    deltas = ops.to_numpy(outputs["box_deltas"])
    np.testing.assert_allclose(deltas, golden["bbox_pred"], rtol=1e-3, atol=1e-4)


def check_case(
    golden: Golden, model: Any, batch: Batch, case: str, table: Any, patch: pytest.MonkeyPatch
) -> None:
    """Losses and gradients with the draw that the peer recorded."""
    wanted = 0 if case == "no_draw" else 12
    model.set_scoring(federated_classes=wanted)
    counted = case in ("frequencies", "swapped")
    model.set_image_counts([None, golden["image_count1"] if counted else None])
    draws = iter([golden[f"{case}/drawn{i}"] for i in range(2)] if wanted else [])

    def recorded(
        present: np.ndarray, size: int, wanted: int, counts: Any, generator: Any
    ) -> np.ndarray:
        own = draw_classes(present, size, wanted, counts, generator)
        given = next(draws, own)
        assert len(own) == len(given)
        assert not np.isin(given, present).any()
        if counts is not None:  # the recorded draw obeys the same rule as ours
            assert (np.append(counts, 1)[given] > 0).all()
        return given

    patch.setattr("unidet.models.unidetector.federated.draw_classes", recorded)
    found, norms = losses_and_norms(model, batch)
    assert next(draws, None) is None
    check_losses(golden, f"{case}/loss", found)
    check_gradients(golden, f"{case}/gradnorm", table, norms)
