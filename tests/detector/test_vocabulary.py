"""Detectors that find what they are told to: vocabularies, their cache, two stages."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.detector.vocabularies import E2E, LENGTH, NAMES, build, vectors, write_all, write_vectors
from tests.text.tiny import tiny_clip
from unidet.backends import available
from unidet.data import Loader, load_coco
from unidet.data.proposals import placed
from unidet.detector import Detector
from unidet.errors import UserError
from unidet.evaluation import evaluate_model
from unidet.evaluation.propose import propose
from unidet.text import EmbeddingOptions, Tokenizer, cache, embed_names
from unidet.text.cache import CLIP_VARIABLE, VARIABLE, cache_folder
from unidet.text.templates import TEMPLATES
from unidet.text.vocabulary import VARIABLE as MERGES_VARIABLE

HERE = available()[0]
PHOTO = Path("d/images/000000.jpg")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_all(tmp_path_factory.mktemp("vocabularies"), HERE)


@pytest.fixture(autouse=True)
def place(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of all files is the current one; the cache is empty."""
    monkeypatch.chdir(files)
    monkeypatch.setenv(VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setenv(MERGES_VARIABLE, "merges.txt")
    monkeypatch.delenv(CLIP_VARIABLE, raising=False)
    return tmp_path


def by_name(found: Any) -> dict[str, np.ndarray]:
    """Boxes with scores of each class."""
    rows = np.column_stack([found.boxes_xyxy, found.scores])
    return {name: rows[[n == name for n in found.names()]] for name in sorted(set(found.names()))}


def test_a_vocabulary_decides_what_is_found(backend: str, tmp_path: Path) -> None:
    detector = Detector("e2e.safetensors", backend=backend)
    assert detector.class_names == NAMES
    rows = vectors(3, seed=8)
    detector.set_vocabulary(["cat", "dog", "bus"], rows)
    assert detector.class_names == ("cat", "dog", "bus")
    found = detector(PHOTO, score_threshold=0.0)
    assert found.class_names == ("cat", "dog", "bus") and set(found.labels) == {0, 1, 2}
    # Scores are of the names, wherever they stand and whatever else is looked for.
    detector.set_vocabulary(["bus", "cat"], rows[[2, 0]] * 3)
    some, whole = by_name(detector(PHOTO, score_threshold=0.0)), by_name(found)
    assert sorted(some) == ["bus", "cat"]
    for name in some:
        np.testing.assert_allclose(some[name], whole[name], atol=1e-4)
    path = tmp_path / "two.safetensors"
    detector.save(path)
    again = Detector(path, backend=backend)
    assert again.class_names == ("bus", "cat")
    for name, boxes in by_name(again(PHOTO, score_threshold=0.0)).items():
        np.testing.assert_allclose(boxes, some[name], atol=1e-4)
    with pytest.raises(UserError, match="exists"):
        detector.save(path)
    detector.set_vocabulary(["tree"], rows[:1])
    detector.save(path, overwrite=True)
    assert Detector(path, backend=backend).class_names == ("tree",)


def test_both_backends_find_the_same(both: None) -> None:
    results = []
    for backend in ("torch", "jittor"):
        detector = Detector("stage2.safetensors", backend, first_stage="cln.safetensors")
        detector.set_vocabulary(["cat", "dog", "bus"], vectors(3, seed=8))
        detector.model.set_scoring(beta=0.3)
        results.append(by_name(detector(PHOTO, score_threshold=0.0)))
    assert sorted(results[0]) == sorted(results[1]) == ["bus", "cat", "dog"]
    for name, rows in results[0].items():
        assert len(rows) == len(results[1][name])
        np.testing.assert_allclose(rows[:, 4], results[1][name][:, 4], atol=1e-4)


def test_sources_of_vectors(tmp_path: Path) -> None:
    detector = Detector("e2e.safetensors", backend=HERE)
    rows = vectors(3, seed=8)
    names = ("cat", "dog", "traffic cone")
    with_names = write_vectors(tmp_path / "a.npy", names, rows.astype(np.float16))
    without = write_vectors(tmp_path / "b.npy", None, rows[[2, 0]])
    expected = None
    for source in (
        rows[[2, 0]],
        rows[[2, 0]].tolist(),
        dict(zip(names, rows)),
        with_names,
        str(without),
    ):
        detector.set_vocabulary(["traffic cone", " cat "], source)
        assert detector.class_names == ("traffic cone", "cat")
        found = detector(PHOTO, score_threshold=0.0)
        expected = found if expected is None else expected
        np.testing.assert_array_equal(found.labels, expected.labels)
        np.testing.assert_allclose(found.scores, expected.scores, atol=2e-2)


def test_clip_makes_vectors_once(
    backend: str, monkeypatch: pytest.MonkeyPatch, place: Path
) -> None:
    detector = Detector("e2e.safetensors", backend=backend)
    asked: list[list[str]] = []
    real = cache.embed_names

    def counted(model: Any, names: Any, **more: Any) -> np.ndarray:
        asked.append(list(names))
        return real(model, names, **more)

    monkeypatch.setattr(cache, "embed_names", counted)
    given: list[np.ndarray] = []
    change = detector.model.set_vocabulary
    monkeypatch.setattr(
        detector.model,
        "set_vocabulary",
        lambda names, rows: given.append(rows) or change(names, rows),
        raising=False,
    )
    detector.set_vocabulary(["cat", "traffic cone"], clip="clip3.safetensors")
    expected = embed_names(tiny_clip(backend), ["cat", "traffic cone"], tokenizer=Tokenizer())
    np.testing.assert_allclose(given[-1], expected, 1e-4, 1e-5)
    assert len(list((place / "cache" / "text").iterdir())) == 1
    monkeypatch.setenv(CLIP_VARIABLE, "clip3.safetensors")
    detector.set_vocabulary(["traffic cone", "bus", "cat"])
    assert asked == [["cat", "traffic cone"], ["bus"]]
    np.testing.assert_array_equal(given[-1][[2, 0]], given[0])
    # All are known: CLIP is not even loaded.
    monkeypatch.setattr(cache, "load_clip", lambda *_, **__: pytest.fail("loaded"))
    detector.set_vocabulary(["bus"])
    np.testing.assert_array_equal(given[-1], given[1][[1]])


def test_other_sentences_are_other_vectors() -> None:
    one = cache.cached_vectors(["cat"], "clip3.safetensors", backend=HERE)
    options = EmbeddingOptions(TEMPLATES["single"])
    two = cache.cached_vectors(["cat"], "clip3.safetensors", options=options, backend=HERE)
    assert (one != two).any()
    assert len(list((cache_folder() / "text").iterdir())) == 2


def test_a_damaged_cache_is_made_again() -> None:
    one = cache.cached_vectors(["cat"], "clip3.safetensors", backend=HERE)
    (file,) = (cache_folder() / "text").iterdir()
    file.write_bytes(file.read_bytes()[:100])
    np.testing.assert_array_equal(
        cache.cached_vectors(["cat"], "clip3.safetensors", backend=HERE), one
    )
    assert len(file.read_bytes()) > 100


def test_a_cache_that_cannot_be_written_is_no_error(
    place: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (place / "file").write_text("in the way")
    monkeypatch.setenv(VARIABLE, str(place / "file"))
    with caplog.at_level(logging.WARNING):
        rows = cache.cached_vectors(["cat"], "clip3.safetensors", backend=HERE)
    assert rows.shape == (1, LENGTH) and "not kept" in caplog.text


def test_two_stages_are_as_with_given_proposals(backend: str) -> None:
    first = Detector("cln.safetensors", backend=backend)
    detector = Detector("stage2.safetensors", backend=backend, first_stage=first)
    detector.model.set_scoring(beta=0.3)
    found = detector(PHOTO, score_threshold=0.0)
    assert len(found) and set(found.names()) == set(NAMES)
    dataset = load_coco("d/annotations.json", "d/images").select([0])
    rows = propose(first.model, Loader(dataset, first.preprocess, 1), stage="detections")
    dataset.proposals = list(rows.values())
    seen = evaluate_model(
        detector.model,
        Loader(dataset, detector.preprocess, 1),
        dataset,
        class_agnostic=True,
    ).results
    scores = sorted((r["score"] for r in seen), reverse=True)
    np.testing.assert_allclose(found.scores, scores, atol=1e-5)
    by_path = Detector("stage2.safetensors", backend=backend, first_stage="cln.safetensors")
    by_path.model.set_scoring(beta=0.3, max_proposals_test=4)
    assert 0 < len(by_path(PHOTO, score_threshold=0.0)) <= 4 * len(NAMES)


def test_proposals_are_placed_as_the_loader_does() -> None:
    rows = np.array([[-5, -5, 20, 10, 0.9], [50, 8, 50.5, 30, 0.8], [30, 5, 70, 40, 0.7]])
    found = placed(rows.astype(np.float32), (40, 60), (80, 90), (2.0, 1.5))
    np.testing.assert_allclose(found, [[0, 0, 30, 20, 0.9], [45, 10, 90, 80, 0.7]], rtol=1e-6)


def test_scoring_of_an_evaluation_passes() -> None:
    """A prior of the data's classes holds in their vocabulary, and nothing stays of it."""
    model = build("unidetector_e2e_r50_c4", HERE, NAMES, **E2E)
    before = model.settings
    names = ("a", "b", "c")
    with model.using_vocabulary(names, vectors(3)):
        with model.scoring(gamma=0.5, class_prior=(1, 4, 16), beta=0.2):
            assert model.settings.class_prior == (1, 4, 16) and model.class_names == names
        assert model.settings.class_prior is None and model.settings.gamma is None
        with (
            pytest.raises(ValueError, match=r"Expected 3 counts"),
            model.scoring(gamma=0.5, class_prior=(1, 2)),
        ):
            pass
    assert model.settings == before
    model.set_scoring(gamma=0.5, class_prior=(1, 2))
    with model.using_vocabulary(NAMES, vectors(2)):
        assert model.settings.class_prior == (1, 2)  # its own classes
    with model.using_vocabulary(("x", "y"), vectors(2)):
        assert model.settings.class_prior is None
    with pytest.raises(ValueError, match=r"`gamma`\. Expected 0 or more"):
        model.set_scoring(gamma=-1.0)


@pytest.mark.parametrize(
    ("names", "source", "message"),
    [
        (["cat", "dog", "cat"], vectors(3), "'cat' twice"),
        ("cat, dog", vectors(2), "a list of names"),
        ([], vectors(2), "Received none"),
        (["cat", " "], vectors(2), "Received ' '"),
        (["cat", "dog"], vectors(3), r"Received shape \(3, 12\)"),
        (["cat", "dog"], vectors(2, 16), r"Received shape \(2, 16\)"),
        (["cat"], np.full((1, LENGTH), np.nan), "NaN"),
        (["cat", "dog"], [[1.0], [1.0, 2.0]], "several lengths"),
        (["cats"], {"cat": vectors(1)[0]}, "none for 'cats' among 1. Did you mean 'cat'"),
        (["cat"], None, "`embeddings`, such as .* or `clip`"),
        (["cat"], "absent.npy", r"absent\.npy"),
    ],
)
def test_bad_vocabularies_change_nothing(names: Any, source: Any, message: str) -> None:
    detector = Detector("e2e.safetensors", backend=HERE)
    with pytest.raises(ValueError, match=message):
        detector.set_vocabulary(names, source)
    assert detector.class_names == NAMES and detector.model.class_names == NAMES


def test_both_sources_are_refused() -> None:
    detector = Detector("e2e.safetensors", backend=HERE)
    with pytest.raises(UserError, match="none beside `embeddings`"):
        detector.set_vocabulary(["cat"], vectors(1), clip="clip3.safetensors")


def test_a_clip_of_other_length_is_refused() -> None:
    with pytest.raises(UserError, match=r"clip3\.safetensors.*have 7 numbers.*one with 12"):
        cache.cached_vectors(["cat"], "clip3.safetensors", length=7, backend=HERE)
    assert not cache_folder().exists()
    cache.cached_vectors(["cat"], "clip3.safetensors", backend=HERE)
    with pytest.raises(UserError, match="one with 12"):
        cache.cached_vectors(["cat"], "clip3.safetensors", length=7, backend=HERE)


def test_models_of_other_kinds_are_refused() -> None:
    fixed = Detector("cln.safetensors", backend=HERE)
    with pytest.raises(UserError, match="unidetector_cln_r18_fpn, whose classes are fixed"):
        fixed.set_vocabulary(["cat"], vectors(1))
    with pytest.raises(UserError, match="finds its boxes itself"):
        Detector("e2e.safetensors", backend=HERE, first_stage="cln.safetensors")
    alone = Detector("stage2.safetensors", backend=HERE)
    with pytest.raises(UserError, match="Missing first stage"):
        alone(PHOTO)
    with pytest.raises(UserError, match=r"Invalid first stage\. Expected a model of one class"):
        alone.set_first_stage(alone)
    with pytest.raises(UserError, match="zeros alone"):
        Detector("empty.safetensors", backend=HERE)(PHOTO)
