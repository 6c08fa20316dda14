"""DETR against the outputs of the two peers that publish it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.golden.support import (
    Golden,
    as_targets,
    losses_and_gradients,
    matched_share,
    norm_of,
)
from unidet.backends import backend_of, nn, ops
from unidet.data.preprocess import Preprocess
from unidet.data.transforms import scale_targets
from unidet.models import create_model
from unidet.models.detr.positions import positions_of
from unidet.structures import Batch
from unidet.weights_convert import detect_family

PEERS = {"facebook": "fb_detr_r50", "huggingface": "hf_detr_resnet50"}
WEIGHTS = {"loss_ce": 1.0, "loss_bbox": 5.0, "loss_giou": 2.0}


class Case:
    """One peer's file as a native model, and its batch."""

    def __init__(self, root: Path, peer: str, backend: str) -> None:
        self.peer = peer
        self.golden = golden = Golden(root, PEERS[peer])
        state = golden.state()
        self.family = detect_family(state)
        mapped = self.family.to_native(state)
        self.model = create_model(
            mapped.description["name"],
            backend=backend,
            seed=None,
            **{**mapped.description["arguments"], "auxiliary_losses": True},
        )
        nn.load_arrays(self.model, mapped.arrays)
        self.batch = self._batch()

    def _batch(self) -> Batch:
        rule = Preprocess.preset("detr", min_size=320, max_size=533)
        batch = rule.batch([self.golden.image(0), self.golden.image(1)])
        batch.targets = [
            scale_targets(
                as_targets(
                    self.golden[f"target{i}/boxes_xyxy"], self.golden[f"target{i}/class_labels"]
                ),
                batch.scales[i],
            )
            for i in range(2)
        ]
        return batch


#: Names of the peers' parameters, and ours. Hugging Face's are those of a live model.
NAMES = (
    (r"^backbone\.0\.body\.", "backbone."),
    (r"^model\.backbone\.model\.", "backbone."),
    (r"^model\.query_position_embeddings\.", "query_embed."),
    (r"^model\.input_projection\.", "input_proj."),
    (r"^model\.(encoder|decoder)\.", r"transformer.\1."),
    (r"\.encoder_attn_layer_norm\.", ".norm2."),
    (r"\.encoder_attn\.", ".multihead_attn."),
    (r"\.o_proj\.", ".out_proj."),
    (r"\.([qkv])_proj\.(weight|bias)$", r".in_proj_\2"),
    (r"^class_labels_classifier\.", "class_embed."),
    (r"^bbox_predictor\.", "bbox_embed."),
)


def gradient_of(key: str, gradients: dict[str, np.ndarray]) -> np.ndarray:
    """The gradient of a peer's parameter."""
    name = key
    for pattern, ours in NAMES:
        name = re.sub(pattern, ours, name)
    part = re.search(r"\.([qkv])_proj\.", key)
    if part is None:
        return gradients[name]
    return np.split(gradients[name], 3)["qkv".index(part[1])]


@pytest.fixture(params=list(PEERS))
def case(request: pytest.FixtureRequest, sample_data: Path, backend: str) -> Case:
    return Case(sample_data, request.param, backend)


def run(case: Case) -> dict[str, Any]:
    """Outputs and, by the name of their module, what the parts answer."""
    seen: dict[str, Any] = {}
    parts = {
        "backbone_c5": case.model.backbone,
        "input_proj": case.model.input_proj,
        "encoder_last": case.model.transformer.encoder,
        "decoder_last": case.model.transformer.decoder,
    }

    def keep(name: str) -> Any:
        def hook(module: Any, inputs: Any, output: Any) -> None:
            last = output[-1] if isinstance(output, (tuple, list)) else output
            seen[name] = last

        return hook

    handles = [part.register_forward_hook(keep(name)) for name, part in parts.items()]
    with ops.no_grad():
        outputs = case.model.run(case.batch)
    for handle in handles:
        handle.remove()
    return {**outputs, "seen": {name: ops.to_numpy(value) for name, value in seen.items()}}


def test_outputs_and_detections(case: Case) -> None:
    golden, batch = case.golden, case.batch
    golden.check("pixel_values", batch.images, atol=1e-5)
    np.testing.assert_array_equal(golden["pixel_mask_valid_hw"], batch.image_sizes)
    found = run(case)
    for name, value in found["seen"].items():
        if f"{name}/sample" in golden.outputs:
            golden.check(name, value)
    logits, boxes = (ops.to_numpy(found[key]) for key in ("cls_logits", "boxes_cxcywh"))
    np.testing.assert_allclose(logits[-1], golden["logits"], atol=2e-3)
    np.testing.assert_allclose(boxes[-1], golden["pred_boxes"], atol=2e-4)
    if "position/sample" in golden.outputs:
        grid = case.model.backbone(ops.asarray(batch.images, like=found["cls_logits"]))[-1]
        _, places = positions_of(
            batch.images.shape[2:], batch.image_sizes, tuple(ops.shape(grid)[2:]), 256
        )
        golden.check(
            "position", places.transpose(0, 2, 1).reshape(golden["position/shape"]), atol=1e-5
        )
        for layer in range(5):
            golden.check(f"aux{layer}/logits", logits[layer])
            golden.check(f"aux{layer}/boxes", boxes[layer])
    detections = case.model.predict(found, batch)
    for i, one in enumerate(detections):
        assert (np.diff(one.scores) <= 0).all()
        for suffix, floor in (("", 0.0), ("_thr0.5", 0.5), ("_thr0.1", 0.1)):
            if f"det{i}{suffix}/scores" not in golden.outputs:
                continue
            rows = [golden[f"det{i}{suffix}/{part}"] for part in ("boxes", "scores", "labels")]
            assert (one.scores > floor).sum() == len(rows[1])
            assert matched_share(one, *rows) == 1


@pytest.mark.parametrize("case", ["facebook"], indirect=True)
def test_matching(case: Case) -> None:
    golden = case.golden
    goal = case.model.training_targets(run(case), case.batch.targets)
    queries = case.model.settings.num_queries
    last = goal.index[-1] - (len(goal.index) - 1) * 2 * queries
    for i in range(2):
        own = last[last // queries == i] % queries
        boxes = goal.boxes_cxcywh.reshape(len(goal.index), -1, 4)[-1][last // queries == i]
        wanted = golden[f"labels{i}/boxes"]
        nearest = np.abs(boxes[:, None] - wanted[None]).sum(axis=2).argmin(axis=1)
        assert set(zip(own, nearest)) == set(zip(*golden[f"match{i}"]))


@pytest.mark.parametrize("auxiliary", [False, True], ids=["last", "all"])
def test_losses_and_gradients(case: Case, auxiliary: bool) -> None:
    golden, model = case.golden, case.model
    prefix = "aux_" if auxiliary else ""
    arguments = {**model.config["arguments"], "auxiliary_losses": auxiliary}
    # With auxiliary losses transformers hands normed answers on: another network.
    arguments["renormalise"] = auxiliary and case.peer == "huggingface"
    arguments |= dict.fromkeys(
        ("dropout", "attention_dropout", "activation_dropout", "input_dropout"), 0.0
    )
    quiet = create_model(model.model_name, backend=backend_of(model), seed=None, **arguments)
    nn.load_arrays(quiet, nn.state_arrays(model))
    losses, gradients = losses_and_gradients(quiet, case.batch)
    named = {
        name: value / next(w for start, w in WEIGHTS.items() if name.startswith(start))
        for name, value in losses.items()
    }
    assert set(named) == {
        key.removeprefix(f"{prefix}loss/")
        for key in golden.outputs.files
        if key.startswith(f"{prefix}loss/loss_")
    }
    for name, value in named.items():
        assert value == pytest.approx(float(golden[f"{prefix}loss/{name}"]), rel=1e-3), name
    assert sum(losses.values()) == pytest.approx(float(golden[f"{prefix}loss/total"]), rel=1e-3)
    measures = quiet.measures(quiet.run(case.batch), case.batch.targets)
    assert measures["cardinality_error"] == pytest.approx(
        float(golden[f"{prefix}loss/cardinality_error"])
    )
    if f"{prefix}loss/class_error" in golden.outputs:
        assert measures["class_error"] == pytest.approx(
            float(golden[f"{prefix}loss/class_error"]), abs=1e-3
        )
    checked = [key for key in golden.outputs.files if key.startswith(f"{prefix}gradnorm/")]
    assert len(checked) >= 12
    for key in checked:
        own = norm_of(gradient_of(key.removeprefix(f"{prefix}gradnorm/"), gradients))
        # A bias of all keys changes no attention: its gradient is rounding, 1e-6 at the peer.
        assert own == pytest.approx(float(golden[key]), rel=5e-3, abs=1e-5), key
