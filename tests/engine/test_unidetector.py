"""UniDetector learns from data sets of different classes, and second stages from given boxes."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runs import assert_same_weights, interrupt, losses, rows

from unidet.backends import available
from unidet.checkpoints.native import load_checkpoint
from unidet.config import Config, ConfigError, from_mapping
from unidet.data import generate_scenes, load_coco
from unidet.data.frequencies import count_frequencies
from unidet.data.proposals import write_proposals
from unidet.engine import train
from unidet.engine.trainer import Trainer
from unidet.errors import UserError
from unidet.structures import Batch

LENGTH = 32
#: What each data set draws, and what it calls them: one shape has another name in each.
DATA = {
    "a": {"disc": "disc", "square": "square"},
    "b": {"square": "Square ", "star": "star", "disc": "Disk", "ring": "ring"},
    "c": {"star": "five-pointed star", "cross": "cross", "square": "square"},
}
IMAGES = {"a": 4, "b": 6, "c": 4}
SIZES = tuple(len(names) for names in DATA.values())
ARGUMENTS: dict[str, Any] = {
    "clip_layers": [1, 1, 1, 1],
    "clip_width": 16,
    "embedding_dim": LENGTH,
    "roi_size": 8,
    # Room for all, so that nothing but classes is drawn: see the test of Faster R-CNN.
    "roi_batch": 128,
    "federated_classes": 3,
    "frozen_stages": -1,
    "score_threshold": 0.0,
    "soft_min_score": 0.0,
    "preprocess": {"resize": "fixed", "size": [64, 64]},
}
RPN = {
    "anchor_sizes": [[8, 16, 32]],
    "rpn_batch": 64,
    "rpn_pre_nms_train": 100,
    "rpn_post_nms_train": 40,
    "rpn_pre_nms_test": 60,
    "rpn_post_nms_test": 20,
}
#: Of one epoch, and of a run.
EPOCH, STEPS = 7, 21
E2E, STAGE2 = "unidetector_e2e_r50_c4", "unidetector_stage2_r50_c4"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three folders of scenes with text embeddings, frequencies and boxes."""
    root = tmp_path_factory.mktemp("several")
    rng = np.random.default_rng(0)
    shapes = sorted({shape for names in DATA.values() for shape in names})
    meaning = dict(zip(shapes, rng.standard_normal((len(shapes), LENGTH))))
    for seed, (name, names) in enumerate(DATA.items()):
        folder = root / name
        generate_scenes(folder, IMAGES[name], size=(64, 64), seed=seed, classes=tuple(names))
        path = folder / "annotations.json"
        content = json.loads(path.read_text())
        for category in content["categories"]:
            category["name"] = names[category["name"]]
        path.write_text(json.dumps(content))
        dataset = load_coco(path, folder / "images")
        own = {new: meaning[old] for old, new in names.items()}
        vectors = [own[c] + 0.05 * rng.standard_normal(LENGTH) for c in dataset.class_names]
        np.save(folder / "text.npy", np.array(vectors, np.float16))
        (folder / "counts.json").write_text(json.dumps(count_frequencies(dataset)))
        given = {}
        for record, entry in zip(dataset.images, dataset.annotations):
            near = entry.boxes_xyxy + rng.uniform(-2, 2, entry.boxes_xyxy.shape)
            corner, side = rng.uniform(0, 44, (12, 2)), rng.uniform(8, 30, (12, 2))
            boxes = np.concatenate([near, np.hstack([corner, corner + side])])
            score = np.linspace(0.9, 0.1, len(boxes))[:, None]
            given[record.id] = np.hstack([boxes, score]).astype(np.float32)
        write_proposals(folder / "boxes.npz", given)
    return root


def source(name: str, *without: str, **more: Any) -> dict[str, Any]:
    entry = {
        "annotations": f"{name}/annotations.json",
        "images": f"{name}/images",
        "embeddings": f"{name}/text.npy",
        **more,
    }
    return {key: value for key, value in entry.items() if key not in without}


def config(root: Path, *, model: str = E2E, **changes: Any) -> Config:
    """A run on all three data sets that is measured on the last, whose classes the first lacks."""
    more = {"proposals": "{}/boxes.npz"} if model == STAGE2 else {}
    entries = [source(n, **{k: v.format(n) for k, v in more.items()}) for n in DATA]
    entries[1]["frequencies"] = "b/counts.json"
    return from_mapping(
        {
            "model": {
                "name": model,
                "arguments": {**ARGUMENTS, **(RPN if model == E2E else {"beta": 0.3})},
            },
            "data": {
                "root": str(root),
                "train": changes.get("train_sets", entries),
                "val": changes.get("val_sets", entries[2]),
                "batch_size": 2,
            },
            "optimizer": {"name": "sgd", "lr": 3e-4, "momentum": 0.9, "weight_decay": 1e-4},
            "train": {
                "max_steps": STEPS,
                "epochs": STEPS,
                "checkpoint_every": 1,
                "eval_every": 0,
                "log_every": 1,
                "clip_grad_norm": 35,
                "seed": 5,
                **changes.get("train", {}),
            },
        }
    )


@pytest.fixture(scope="module")
def run(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folder of the whole end-to-end run on a backend, trained once."""
    done: dict[str, Path] = {}

    def folder(backend: str) -> Path:
        if backend not in done:
            work = tmp_path_factory.mktemp("runs") / backend
            train(config(root), backend=backend, work_dir=work, quiet=True)
            done[backend] = work
        return done[backend]

    return folder


def stored_text(root: Path, name: str) -> np.ndarray:
    return np.load(root / name / "text.npy").astype(np.float32)


def test_it_learns_from_all(backend: str, run: Callable[[str], Path], root: Path) -> None:
    work = run(backend)
    steps = [row for row in rows(work) if "loss" in row]
    assert [row["step"] for row in steps] == list(range(1, STEPS + 1))
    assert np.mean(losses(work)[-EPOCH:]) < 0.75 * np.mean(losses(work)[:EPOCH])
    content = load_checkpoint(work / "last.safetensors")
    assert content.model["arguments"]["vocabulary_sizes"] == list(SIZES)
    assert content.class_names == tuple(DATA["a"].values())
    for index, name in enumerate(DATA):
        columns = content.arrays[f"head.text_embeddings_{index}"]
        np.testing.assert_array_equal(columns[:, :-1].T, stored_text(root, name))
        assert not columns[:, -1].any()


def test_it_is_measured_on_classes_of_their_own(
    backend: str, run: Callable[[str], Path], root: Path
) -> None:
    """The model's own vocabulary, which is smaller, plays no part."""
    work = run(backend)
    found = [row["eval"] for row in rows(work) if "eval" in row]
    assert len(found) == 1 and 0 <= found[0]["AP"] <= 1
    entries = json.loads((work / "detections.json").read_text())
    dataset = load_coco(root / "c/annotations.json", root / "c/images")
    seen = {entry["category_id"] for entry in entries}
    assert seen == set(dataset.category_ids) and len(seen) > SIZES[0]
    assert {entry["image_id"] for entry in entries} == {image.id for image in dataset.images}


def test_resuming_is_exact(
    backend: str, run: Callable[[str], Path], root: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    chosen = config(root)
    interrupt(chosen, 5, monkeypatch, backend=backend, work_dir=tmp_path / "run", quiet=True)
    train(chosen, backend=backend, work_dir=tmp_path / "run", resume=True, quiet=True)
    np.testing.assert_allclose(losses(tmp_path / "run"), losses(run(backend)), rtol=1e-6)
    assert_same_weights(tmp_path / "run", run(backend))


def test_another_run_starts_from_its_weights(
    backend: str, run: Callable[[str], Path], root: Path, tmp_path: Path
) -> None:
    """A narrow network of CLIP is one of CLIP; the vocabulary is that of the new data."""
    weights = run(backend) / "last.safetensors"
    options = {"weights": str(weights), "max_steps": 1}
    chosen = config(root, train=options, train_sets=[source("b")], val_sets=[])
    work = tmp_path / "run"
    train(chosen, backend=backend, work_dir=work, quiet=True)
    assert "weights from" in (work / "log.txt").read_text()
    before, after = load_checkpoint(weights), load_checkpoint(work / "last.safetensors")
    name = "head.attnpool.v_proj.weight"
    np.testing.assert_allclose(after.arrays[name], before.arrays[name], atol=1e-3)
    text = after.arrays["head.text_embeddings"][:, :-1].T
    np.testing.assert_array_equal(text, stored_text(root, "b"))


def test_both_frameworks_train_alike(both: None, run: Callable[[str], Path]) -> None:
    torch, jittor = (np.array(losses(run(name))) for name in ("torch", "jittor"))
    apart = np.abs(torch - jittor)[: 2 * EPOCH] / torch[: 2 * EPOCH]
    print(f"\nloss {torch[0]:.3f} to {torch[-1]:.3f}, {apart.max():.1e} apart in two epochs")
    assert np.ptp(torch) > 0.1
    assert apart.max() <= 1e-3


def seen_batches(chosen: Config, work: Path, backend: str) -> tuple[list[Batch], list[Any]]:
    """Batches of a run, and what its model was asked in each."""
    batches: list[Batch] = []
    goals: list[Any] = []
    original = Trainer._train_step

    def watch(self: Trainer, own: list[Batch]) -> None:
        batches.extend(own)
        if not goals:
            draw = self.model.training_targets

            def record(outputs: Any, targets: Any) -> Any:
                goals.append(draw(outputs, targets)["roi"])
                return draw(outputs, targets)

            object.__setattr__(self.model, "training_targets", record)
        original(self, own)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_train_step", watch)
        train(chosen, backend=backend, work_dir=work, quiet=True)
    return batches, goals


def test_every_image_is_asked_about_its_own_classes(
    backend: str, root: Path, tmp_path: Path
) -> None:
    """Data sets are mixed image by image, each as often as it has images."""
    total = sum(IMAGES.values())
    chosen = config(root, model=STAGE2, train={"max_steps": total // 2}, val_sets=[])
    batches, goals = seen_batches(chosen, tmp_path / "run", backend)
    ids = [i for batch in batches for i in batch.dataset_ids]
    assert np.bincount(ids).tolist() == list(IMAGES.values())
    assert any(len(set(batch.dataset_ids)) == 2 for batch in batches)
    assert len(goals) == len(batches)
    counts = {e["id"]: e["image_count"] for e in json.loads((root / "b/counts.json").read_text())}
    for batch, goal in zip(batches, goals):
        assert [len(t) for t in batch.targets] and len(goal.groups) == len(batch)
        for image, group in enumerate(goal.groups):
            dataset = batch.dataset_ids[image]
            assert group.vocabulary == dataset
            assert set(goal.images[group.start : group.stop]) == {image}
            asked = group.columns[group.weights[0] > 0]
            assert asked.max() < SIZES[dataset]
            assert set(batch.targets[image].labels) <= set(asked)
            if dataset == 1:
                assert all(counts[int(label) + 1] for label in asked)


def test_a_second_stage_learns_from_given_boxes(backend: str, root: Path, tmp_path: Path) -> None:
    work = tmp_path / "run"
    train(config(root, model=STAGE2), backend=backend, work_dir=work, quiet=True)
    found = losses(work)
    assert len(found) == STEPS and np.mean(found[-EPOCH:]) < 0.75 * np.mean(found[:EPOCH])
    entries = json.loads((work / "detections.json").read_text())
    assert {entry["category_id"] for entry in entries} == {1, 2, 3}


def test_data_sets_of_the_same_classes_share_a_vocabulary(root: Path, tmp_path: Path) -> None:
    pair = [source("a"), source("a", count=2)]
    chosen = config(root, train_sets=pair, val_sets=[], train={"max_steps": 1})
    train(chosen, backend=available()[0], work_dir=tmp_path / "run", quiet=True)
    content = load_checkpoint(tmp_path / "run/last.safetensors")
    assert not content.model["arguments"]["vocabulary_sizes"]
    text = content.arrays["head.text_embeddings"][:, :-1].T
    np.testing.assert_array_equal(text, stored_text(root, "a"))


def bad_runs(root: Path) -> dict[str, tuple[Config, str]]:
    """Runs that must end before the first step, and what they say."""
    short, nan = root / "short.npy", root / "nan.npy"
    np.save(short, stored_text(root, "b")[:, :-1])
    np.save(nan, stored_text(root, "b") * np.nan)
    first, last = source("a"), source("c")

    def second(*without: str, **more: Any) -> Config:
        return config(root, train_sets=[first, source("b", *without, **more), last])

    named = config(root)
    arguments = {**named.model.arguments, "vocabulary_sizes": [2, 4, 3]}
    given = dataclasses.replace(named, model=dataclasses.replace(named.model, arguments=arguments))
    return {
        "none": (second("embeddings"), r"`data.train.1.embeddings`.*unidet embed"),
        "of others": (second(embeddings="a/text.npy"), "a/text.npy.*4 rows.*Received 2"),
        "nowhere": (second(embeddings="b/no.npy"), "b/no.npy"),
        "too short": (second(embeddings=str(short)), "data.train.1.embeddings.*32.*31"),
        "NaN": (second(embeddings=str(nan)), "nan.npy.*finite"),
        "counts": (second(frequencies="c/counts.json"), "frequencies .*another data set"),
        "sizes": (given, "`model.arguments.vocabulary_sizes`.*training data decide"),
        "no boxes": (
            config(root, model=STAGE2, train_sets=[first, last]),
            "`data.train.proposals`",
        ),
    }


@pytest.mark.parametrize(
    "case",
    ["none", "of others", "nowhere", "too short", "NaN", "counts", "sizes", "no boxes"],
)
def test_what_cannot_be_learnt_from(root: Path, tmp_path: Path, case: str) -> None:
    chosen, message = bad_runs(root)[case]
    with pytest.raises((UserError, ConfigError), match=message) as error:
        train(chosen, backend=available()[0], work_dir=tmp_path / "run", quiet=True)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()
