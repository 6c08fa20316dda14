"""Open vocabularies on generated scenes: names never seen, objects never annotated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unidet.config import load_config, read_text
from unidet.config.build import build
from unidet.config.yaml_io import parse
from unidet.data import Loader, generate_scenes, load_dataset
from unidet.data.convert import write_json
from unidet.data.frequencies import count_frequencies
from unidet.data.scene_vectors import write_vectors
from unidet.detector import Detector
from unidet.engine import train
from unidet.evaluation import evaluate_model, evaluate_proposals
from unidet.evaluation.propose import choose_stage, propose
from unidet.runs.recipe.config import Recipe
from unidet.runs.recipe.report import read_report, report_tables
from unidet.runs.recipe.unidetector import unidetector_steps
from unidet.runs.record import read_record
from unidet.runs.steps import run_steps

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

SHAPES = ("disc", "square", "triangle", "cross")
COLOURS = ("red", "yellow", "green", "cyan", "blue", "purple")
#: Never in a training picture, while each colour and each shape is.
UNSEEN = (
    "red disc", "yellow square", "green triangle", "cyan cross", "blue disc", "purple square",
)  # fmt: skip
ANNOTATED = ("disc", "square", "triangle")


@pytest.fixture(scope="module")
def combinations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data of the config zeroshot_scenes."""
    root = tmp_path_factory.mktemp("combinations")
    options: dict[str, Any] = {"size": (96, 96), "max_objects": 3, "classes": SHAPES}
    options["colours"] = COLOURS
    generate_scenes(root / "train", 640, **options, without=UNSEEN)
    generate_scenes(root / "val", 200, **options, seed=1)
    known = read(root, "train")
    write_json(count_frequencies(known), root / "frequencies.json")
    write_vectors(known.class_names, root / "vectors.npy", dim=64)
    return root


def read(root: Path, part: str, **more: Any) -> Any:
    place = root / part
    spec = {"annotations": place / "annotations.json", "images": place / "images"}
    return load_dataset({"format": "coco", **spec, **more})


def test_combinations_never_seen_are_found(
    backend: str, combinations: Path, tmp_path: Path
) -> None:
    """A detector that was taught "red square" and "blue disc" finds "red disc".

    Seen and unseen combinations stand in the same pictures, and all names compete for a box.
    """
    config = load_config("zeroshot_scenes", [f"data.root={combinations}", "data.val=[]"])
    train(config, backend=backend, work_dir=tmp_path, quiet=True)
    val = read(combinations, "val", embeddings=combinations / "vectors.npy")
    model = Detector(tmp_path / "last.safetensors", backend=backend).model
    found = evaluate_model(model, Loader(val, model.preprocess, 8), val).per_class
    scores = {
        group: float(np.mean([found[name]["AP50"] for name in names]))
        for group, names in (("unseen", UNSEEN), ("seen", set(val.class_names) - set(UNSEEN)))
    }
    print(f"\n{backend}: AP50 seen {scores['seen']:.3f}, unseen {scores['unseen']:.3f}")
    learnt = read(combinations, "train")
    drawn = {learnt.class_names[i] for entry in learnt.annotations for i in entry.labels}
    assert not drawn & set(UNSEEN) and len(drawn) == 18
    assert scores["seen"] >= 0.3
    assert scores["unseen"] >= 0.5 * scores["seen"]


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data of the configs zeroshot_cln_scenes and zeroshot_rpn_scenes."""
    root = tmp_path_factory.mktemp("shapes")
    generate_scenes(root / "train", 400, size=(128, 128), max_objects=5)
    generate_scenes(root / "val", 100, size=(128, 128), max_objects=5, seed=1)
    return root


def recall(kind: str, backend: str, root: Path, work: Path) -> dict[str, dict[str, float]]:
    """Metrics of a first stage's boxes for shapes that were annotated and for the others."""
    config = load_config(f"zeroshot_{kind}_scenes", [f"data.root={root}"])
    assert config.data.class_names == ANNOTATED
    train(config, backend=backend, work_dir=work, quiet=True)
    model = Detector(work / "last.safetensors", backend=backend).model
    val = read(root, "val")
    found = propose(model, Loader(val, model.preprocess, 4), stage=choose_stage(model))
    metrics = {}
    for group, wanted in (("seen", True), ("unseen", False)):
        ids = [i for i, n in zip(val.category_ids, val.class_names) if (n in ANNOTATED) == wanted]
        truth = val.to_coco()
        scores = evaluate_proposals(truth, found, limits=(10, 30, 100), category_ids=ids)
        metrics[group] = scores.metrics
    return metrics


def test_cln_finds_what_was_never_annotated(backend: str, shapes: Path, tmp_path: Path) -> None:
    """Shapes that training took for background: the region proposal network learns to miss them."""
    found = {kind: recall(kind, backend, shapes, tmp_path / kind) for kind in ("cln", "rpn")}
    for kind, groups in found.items():
        told = "; ".join(
            f"{group} " + ", ".join(f"{key} {scores[key]:.3f}" for key in ("AR10", "AR30", "AR100"))
            for group, scores in groups.items()
        )
        print(f"\n{backend} {kind}: {told}")
    assert found["cln"]["seen"]["AR100"] >= 0.5
    assert found["cln"]["unseen"]["AR100"] >= found["rpn"]["unseen"]["AR100"]


#: What makes photos as small as the scenes.
SMALL = "model.arguments.preprocess={resize: fixed, size: [96, 96], pad_divisor: 16}"


def photos(sample_data: Path, folder: Path) -> list[dict[str, str]]:
    """Two small sets of photos for a recipe, with vectors of their names."""
    sets = []
    for name, part in (("bccd", "val"), ("voc100", "train")):
        root = sample_data / "data" / name
        annotations = root / "annotations" / f"instances_{part}.json"
        spec = {"format": "coco", "annotations": annotations, "images": root / "images"}
        vectors = write_vectors(load_dataset(spec).class_names, folder / f"{name}.npy", dim=64)
        sets.append(
            {
                "annotations": str(annotations),
                "images": str(root / "images"),
                "embeddings": str(vectors),
            }
        )
    return sets


def test_the_recipe_on_scenes_and_photos(backend: str, sample_data: Path, tmp_path: Path) -> None:
    """Four data sets of different classes: CLN's boxes against an RPN's, raw against calibrated."""
    values: dict[str, Any] = parse(*read_text("recipe_unidetector_scenes", recipes=True))
    values["train"] += photos(sample_data, tmp_path)
    for scenes in values["scenes"][:2]:
        scenes["count"] = 120
    values["stage2"]["set"] = [SMALL]
    first: dict[str, tuple[str, ...]] = {
        "cln": ("zeroshot_cln_scenes",),
        "rpn": ("zeroshot_scenes", "model.arguments.rpn_post_nms_test=100"),
    }
    reports = []
    for name, (config, *more) in first.items():
        values["stage1"] = {"config": config, "set": ["train.epochs=3", SMALL, *more]}
        work = tmp_path / name
        steps = unidetector_steps(build(Recipe, values, name), work, backend=backend)
        ran = run_steps(steps, steps, read_record(work), say=lambda line: None)
        assert ran == [step.name for step in steps]
        reports.append(read_report(work))
    print(f"\n{report_tables(reports)}")
    cln, rpn = reports
    assert cln["classes"] == {"all": 24, "seen": 18}
    assert cln["proposals"]["unseen"]["AR100"] >= rpn["proposals"]["unseen"]["AR100"]
    for kind in ("raw", "calibrated"):
        assert cln["results"][kind]["AP50 seen"] > 0.1
        assert cln["results"][kind]["AP50 unseen"] >= 0.5 * cln["results"][kind]["AP50 seen"]
    assert cln["results"]["calibrated"]["AP"] > 0.95 * cln["results"]["raw"]["AP"]
