"""The detectors that classify by text: training, inference and odd input on both backends."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

from tests.models.steps import step
from tests.models.tiny_unidetector import (
    E2E,
    LENGTH,
    OBJECTS,
    SIZES,
    STAGE2,
    TINY,
    answers,
    batch_of,
    proposals,
    several,
    targets,
    texts,
    tiny,
)
from unidet.backends import nn, ops, random
from unidet.models import create_model
from unidet.structures import Targets

# --- class loss ---------------------------------------------------------------------------------


def judge_class_loss(
    vectors: np.ndarray, rows: Any, vocabularies: list[np.ndarray], ids: list[int]
) -> float:
    """Cross entropies of each row with the classes of its image's objects, in plain NumPy."""
    total = 0.0
    for image, dataset in enumerate(ids):
        own = rows.images == image
        labels, a = rows.classes[own], vectors[own].astype(np.float64)
        text = vocabularies[dataset].astype(np.float64)
        asked = [c for c in np.unique(labels) if c < len(text)]
        a = a / np.linalg.norm(a, axis=1, keepdims=True)
        logits = 100 * a @ (text / np.linalg.norm(text, axis=1, keepdims=True))[asked].T
        wanted = labels[:, None] == np.array(asked, int)
        each = np.logaddexp(0, logits) - wanted * logits
        total += each.sum() / own.sum() / len(ids)
    return total


def test_class_loss_of_several_data_sets(backend: str) -> None:
    model = several(backend, federated_classes=0)
    batch = batch_of(ids=(1, 0))
    batch.targets = [targets((4, 6, 30, 40, 6), (50, 10, 90, 60, 0)), OBJECTS[1]]
    model.train()
    outputs = model.run(batch)
    goals = model.training_targets(outputs, batch.targets)
    losses = model.losses(outputs, batch.targets, goals)
    model.eval()  # norms are held, so nothing else changes
    rows = goals["roi"]
    with ops.no_grad():
        regions = model.roi_features(outputs["features"], rows.rois, rows.images)
        vectors = ops.to_numpy(model.head.features(regions))
    expected = judge_class_loss(vectors, rows, texts(*SIZES), [1, 0])
    assert float(ops.item(losses["loss_cls"])) == pytest.approx(expected, rel=1e-4)


def vector_gradients(
    model: Any, labels: list[int], vocabulary: np.ndarray, backend: str
) -> tuple[list[np.ndarray], list[list[int]]]:
    """Gradient of the class loss for the rows of each image, and the classes asked of it.

    Image 0 is of data set 0 and never changes; image 1 is of data set 1.
    """
    model.set_training_vocabularies([texts(*SIZES)[0], vocabulary])
    batch = batch_of(ids=(0, 1))
    first = OBJECTS[1]
    batch.targets = [
        OBJECTS[0],
        Targets(np.tile(first.boxes_xyxy, (len(labels), 1)), np.array(labels)),
    ]
    batch.targets[1].boxes_xyxy[1:] += 20
    model.train()
    with random.at(4, "step", 2):
        goal = model.training_targets(model.run(batch), batch.targets)["roi"]
    leaf = np.random.default_rng(5).standard_normal((len(goal.rois), LENGTH)).astype(np.float32)

    def loss(vectors: Any) -> Any:
        object.__setattr__(model.head, "features", lambda regions: vectors)
        features = model.run(batch)["features"]
        return model.head_losses(features, goal)["loss_cls"]

    _, (gradient,) = ops.grad(loss, [ops.asarray(leaf, backend=backend)])
    model.eval()
    parts = [ops.to_numpy(gradient)[goal.images == image] for image in range(2)]
    asked = [group.columns[group.weights[0] > 0].tolist() for group in goal.groups]
    return parts, asked


def test_one_data_set_never_teaches_another(backend: str) -> None:
    """Whatever data set 1 holds, images of data set 0 learn the same, and are asked the same."""
    own, other = texts(SIZES[1], SIZES[1], seed=8)
    (base, base_other), asked = vector_gradients(several(backend), [2], own, backend)
    assert np.abs(base).max() > 1e-3 and max(asked[0]) < SIZES[0]
    for labels, vocabulary in (([6], own), ([2], other), ([5, 0], other)):
        model = several(backend)
        (same, changed), now = vector_gradients(model, labels, vocabulary, backend)
        np.testing.assert_array_equal(same, base)
        assert now[0] == asked[0]
        assert changed.shape != base_other.shape or np.abs(changed - base_other).max() > 1e-3


def test_both_frameworks_draw_the_same_classes(both: None) -> None:
    asked = []
    for backend in ("torch", "jittor"):
        model = several(backend)
        model.train()
        batch = batch_of(ids=(1, 1))
        with random.at(9, "step", 5):
            goal = model.training_targets(model.run(batch), batch.targets)["roi"]
        asked.append([group.columns.tolist() for group in goal.groups])
        assert all((np.array(columns)[:4] > 0).sum() >= 3 for columns in asked[-1])
    assert asked[0] == asked[1]


def test_classes_in_no_image_are_not_asked(backend: str) -> None:
    model = several(backend, federated_classes=50)
    counts = np.array([4, 4, 4, 0, 0, 2, 0])
    model.set_image_counts([None, counts])
    model.train()
    batch = batch_of(ids=(1, 0))
    groups = model.training_targets(model.run(batch), batch.targets)["roi"].groups
    asked = [set(group.columns[group.weights[0] > 0].tolist()) for group in groups]
    assert asked == [{0, 1, 2, 5}, {0, 1, 2}]
    for wrong in ([None], [None, counts[:-1]], [counts, counts]):
        with pytest.raises(ValueError, match="`counts`"):
            model.set_image_counts(wrong)


def test_weight_of_the_class_loss(backend: str) -> None:
    losses = []
    for weight in (1.0, 3.0):
        model = tiny(STAGE2, backend, class_weight=weight)
        losses.append(step(model, batch_of())[0])
    assert losses[1]["loss_cls"] == pytest.approx(3 * losses[0]["loss_cls"], rel=1e-6)
    assert losses[1]["loss_box"] == losses[0]["loss_box"] > 0


# --- both backends ------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["e2e", "stage2", "partitioned"])
def test_backends_agree(both: None, case: str) -> None:
    sides: list[Any] = []
    sampled = None
    for backend in ("torch", "jittor"):
        model = several(backend) if case == "partitioned" else None
        name = E2E if case == "e2e" else STAGE2
        model = tiny(name, backend) if model is None else model
        batch = batch_of(name, ids=(1, 0) if case == "partitioned" else ())
        raw = ops.to_numpy(answers(model, batch)["cls_logits"])
        losses, gradients, sampled = step(model, batch, sampled)
        sides.append((raw, losses, gradients))
    np.testing.assert_allclose(sides[0][0], sides[1][0], atol=2e-3)
    for key, value in sides[0][1].items():
        assert sides[1][1][key] == pytest.approx(value, rel=1e-5), key
    total = np.sqrt(sum((g**2).sum() for g in sides[0][2].values()))
    for key, a in sides[0][2].items():
        assert np.linalg.norm(a - sides[1][2][key]) <= 1e-2 * np.linalg.norm(a) + 1e-6 * total, key


@pytest.mark.parametrize("name", [E2E, STAGE2])
def test_odd_ground_truth_gives_finite_losses(backend: str, name: str) -> None:
    model = tiny(name, backend)
    nothing = targets()
    for goals in ([nothing, nothing], [targets((5, 5, 5, 9, 0)), targets((200, 200, 300, 300, 1))]):
        losses, gradients, _ = step(model, batch_of(name, targets=goals))
        assert all(np.isfinite(value) for value in losses.values())
        assert all(np.isfinite(array).all() for array in gradients.values())
    losses, gradients, _ = step(model, batch_of(name, targets=[nothing, nothing]))
    assert losses["loss_box"] == 0 and losses["loss_cls"] >= 0
    if name == STAGE2:
        empty = [np.zeros((0, 5), np.float32)] * 2
        losses, _, _ = step(model, batch_of(targets=[nothing, nothing], proposals=empty))
        assert losses == {"loss_cls": 0, "loss_box": 0}
    with pytest.raises(ValueError, match="labels from 0 to 4"):
        step(model, batch_of(name, targets=[targets((4, 6, 30, 40, 5)), nothing]))


def test_labels_are_checked_against_the_vocabulary_of_their_data_set(backend: str) -> None:
    model = several(backend)
    high = [targets((4, 6, 30, 40, 5)), targets()]
    step(model, batch_of(ids=(1, 0), targets=high))
    with pytest.raises(ValueError, match=r"labels from 0 to 2. Received 5"):
        step(model, batch_of(ids=(0, 1), targets=high))


def test_what_is_frozen(backend: str) -> None:
    model = tiny(E2E, backend, frozen_stages=1)
    _, gradients, _ = step(model, batch_of(E2E))
    stem = ("conv1.", "conv2.", "conv3.", "bn1.", "bn2.", "bn3.", "layer1.")
    parts = tuple(f"backbone.{part}" for part in stem)
    frozen = set(nn.parameters(model)) - set(nn.trainable(model))
    assert frozen == {name for name in nn.parameters(model) if name.startswith(parts)}
    assert len(frozen) > 20 and not any(name.startswith(parts) for name in gradients)
    before = nn.state_arrays(model)
    step(model, batch_of(E2E))
    model.train()
    norms = [m for _, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms and not any(norm.training for norm in norms)
    after = nn.state_arrays(model)
    assert all(np.array_equal(before[k], after[k]) for k in before)
    live = tiny(E2E, backend, norm_eval=False, frozen_stages=-1)
    assert set(nn.trainable(live)) == set(nn.parameters(live))
    assert all(m.training for _, m in live.train().named_modules())


# --- inference ----------------------------------------------------------------------------------


def test_detections_are_of_the_first_vocabulary(backend: str) -> None:
    """The background of a small vocabulary is no class of a larger one."""
    model = several(backend, score_threshold=0.0, class_names=("a", "b", "c"))
    outputs = answers(model, batch_of(ids=(0, 1)))
    assert tuple(ops.shape(outputs["cls_logits"])) == (40, SIZES[0] + 1)
    for found in model.predict(outputs, batch_of()):
        assert len(found) and found.labels.max() < SIZES[0]
        assert found.class_names == ("a", "b", "c")


def test_scores_follow_the_proposals(backend: str) -> None:
    model = tiny(STAGE2, backend)
    outputs = answers(model, batch_of())
    plain = model.scores(outputs)
    logits = ops.to_numpy(outputs["cls_logits"]).astype(np.float64)
    np.testing.assert_allclose(plain, 1 / (1 + np.exp(-logits)), rtol=1e-5, atol=1e-30)
    quality = np.concatenate([one[:, 4] for one in batch_of().proposals])[:, None]
    with model.scoring(beta=0.3):
        np.testing.assert_allclose(model.scores(outputs), plain**0.3 * quality**0.7, rtol=1e-4)
    with model.scoring(beta=0.0):
        np.testing.assert_allclose(model.scores(outputs), np.tile(quality, (1, 6)), rtol=1e-6)
    np.testing.assert_array_equal(model.scores(outputs), plain)
    for wrong in (
        {"beta": 1.5},
        {"gamma": 0.6},
        {"class_prior": (1, 2)},
        {"class_prior": (-1,) * 5},
    ):
        with pytest.raises(ValueError, match=r"`beta`|`class_prior`"):
            model.set_scoring(**wrong)
    np.testing.assert_array_equal(model.scores(outputs), plain)


def test_a_second_stage_wants_proposals(backend: str) -> None:
    model = tiny(STAGE2, backend, beta=0.3)
    with pytest.raises(ValueError, match="Missing argument `proposals`"):
        answers(model, batch_of(proposals=[]))
    bare = batch_of(proposals=proposals(scores=False))
    outputs = answers(model, bare)
    with pytest.raises(ValueError, match=r"`proposals`.*\(n, 5\) with scores.*`beta` is 0.3"):
        model.predict(outputs, bare)
    model.set_scoring(beta=None)
    assert all(len(found) for found in model.predict(outputs, bare))


def test_limits_of_given_proposals(backend: str) -> None:
    """The best, which come first; in training another number than in inference."""
    model = tiny(STAGE2, backend, max_proposals_train=5, max_proposals_test=8)
    batch = batch_of()
    outputs = answers(model, batch)
    assert outputs["roi_counts"] == [8, 8]
    for found, scores, given in zip(
        outputs["proposals"], outputs["proposal_scores"], batch.proposals
    ):
        np.testing.assert_array_equal(found, given[:8, :4])
        np.testing.assert_array_equal(scores, given[:8, 4])
    model.train()
    assert [len(one) for one in model.run(batch)["proposals"]] == [5, 5]
    whole = tiny(STAGE2, backend, max_proposals_train=None)
    whole.train()
    assert [len(one) for one in whole.run(batch)["proposals"]] == [20, 20]
    with pytest.raises(ValueError, match="`max_proposals_test`"):
        tiny(STAGE2, backend, max_proposals_test=0)


@pytest.mark.parametrize("ids", [(0, 2), (-1, 0), (0,), (0, 1, 1)])
def test_data_sets_that_are_not_there(backend: str, ids: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"`dataset_ids`.*2 numbers from 0 to 1"):
        answers(several(backend), batch_of(ids=ids))
    # One vocabulary serves all data sets.
    if len(ids) == 2:
        assert answers(tiny(STAGE2, backend), batch_of(ids=ids))["dataset_ids"] == list(ids)


# --- copies -------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["e2e", "stage2", "partitioned"])
def test_config_and_weights_rebuild_the_model(backend: str, case: str) -> None:
    prior = {"beta": 0.3, "gamma": 0.6, "class_prior": (3, 0, 9, 1, 1)}
    made = {
        "e2e": lambda: tiny(E2E, backend, class_names=tuple("abcde")),
        "stage2": lambda: tiny(STAGE2, backend, **prior),
        "partitioned": lambda: several(backend, class_names=("x", "y", "z")),
    }
    model = made[case]()
    batch = batch_of(E2E if case == "e2e" else STAGE2)
    config = model.config
    again = create_model(config["name"], backend=backend, seed=None, **config["arguments"])
    nn.load_arrays(again, nn.state_arrays(model))
    assert again.config == config and again.class_names == model.class_names
    assert again.settings == model.settings
    sides = []
    for one in (model, again, pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        outputs = answers(one, batch)
        sides.append((model.scores(outputs), one.predict(outputs, batch)))
    for scores, found in sides[1:]:
        np.testing.assert_allclose(scores, sides[0][0], rtol=1e-5, atol=1e-7)
        assert [len(x) for x in found] == [len(x) for x in sides[0][1]]


@pytest.mark.parametrize(
    ("key", "arguments"),
    [
        ("vocabulary_sizes", {"vocabulary_sizes": (3, 4)}),
        ("vocabulary_sizes", {"vocabulary_sizes": (0, 5)}),
        ("num_classes", {"num_classes": 0}),
        ("class_names", {"class_names": ("one",)}),
        ("class_names", {"vocabulary_sizes": (3, 5), "class_names": tuple("abcde")}),
        ("clip_layers", {"clip_layers": (1, 1, 1)}),
        ("clip_width", {"clip_width": 15}),
        ("embedding_dim", {"embedding_dim": 0}),
        ("roi_size", {"roi_size": 7}),
        ("federated_classes", {"federated_classes": -1}),
        ("beta", {"beta": 2.0}),
        ("gamma", {"gamma": -0.1, "class_prior": (1,) * 5}),
        ("class_prior", {"gamma": 0.5}),
        ("class_prior", {"class_prior": (1, 2, 3)}),
    ],
)
def test_bad_arguments_are_named(key: str, arguments: dict[str, Any]) -> None:
    from unidet.backends import available

    with pytest.raises(ValueError, match=f"`{key}`"):
        create_model(STAGE2, backend=available()[0], seed=None, **{
            **TINY, "num_classes": 5, **arguments
        })  # fmt: skip
