"""`unidet embed`: its files, going on after an interruption, and what it refuses."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.text.tiny import tiny_clip, write_clip, write_vocabulary
from unidet.backends import available
from unidet.cli.main import main
from unidet.models.clip.text import CLIPText
from unidet.text import EmbeddingOptions, Tokenizer, embed_names, embedding_files
from unidet.text.vocabulary import VARIABLE

HERE = available()[0]
NAMES = ["cat", "traffic light", "stop_sign", "dog", "a+b"]


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    for seed in (3, 4):
        write_clip(folder, HERE, seed)
    write_vocabulary(folder)
    return folder


@pytest.fixture
def place(tmp_path: Path, clips: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with all inputs, which is the current one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(VARIABLE, str(clips / "merges.txt"))
    for seed in (3, 4):
        os.link(clips / f"clip{seed}.safetensors", tmp_path / f"clip{seed}.safetensors")
    categories = [{"id": i, "name": name} for i, name in reversed(list(enumerate(NAMES)))]
    Path("a.json").write_text(json.dumps({"categories": categories}))
    return tmp_path


def words(*more: str, clip: int = 3, backend: str = HERE) -> list[str]:
    return (
        f"embed --categories a.json --clip clip{clip}.safetensors --out out/v.npy "
        f"--batch-size 2 --backend {backend}"
    ).split() + list(more)


def stopped_after(batches: int) -> Callable[..., Any]:
    """A text tower that the user interrupts."""
    real, calls = CLIPText.encode_text, []

    def encode(self: Any, tokens: Any) -> Any:
        if len(calls) == batches:
            raise KeyboardInterrupt
        calls.append(tokens)
        return real(self, tokens)

    return encode


def test_the_files_of_a_result(
    backend: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(backend=backend)) == 0
    shown = capsys.readouterr()
    assert "5 names x 12 float16  out/v.npy" in shown.out
    assert "405 of 405 sentences" in shown.err and "a second  0:00 left" in shown.err
    vectors = np.load("out/v.npy")
    assert vectors.dtype == np.float16 and vectors.shape == (5, 12)
    assert vectors.flags.c_contiguous
    expected = embed_names(tiny_clip(backend), NAMES, tokenizer=Tokenizer())
    np.testing.assert_allclose(vectors, expected.astype(np.float16), 2e-3, 1e-3)
    described = json.loads(Path("out/v.json").read_text())
    assert described["names"] == NAMES and described["shape"] == [5, 12]
    assert len(described["options"]["templates"]) == 81
    assert described["options"]["normalise"] == "none"
    assert described["clip"]["model"] == "clip_rn50" and len(described["clip"]["sha256"]) == 64
    assert sorted(os.listdir("out")) == ["v.json", "v.npy"]


def test_options_reach_the_result(place: Path) -> None:
    Path("t.txt").write_text("a {}\n{} there\n")
    more = ["--templates", "t.txt", "--normalise", "mean", "--clean", "words", "--dtype", "float32"]
    assert main(words(*more)) == 0
    vectors = np.load("out/v.npy")
    options = EmbeddingOptions(("a {}", "{} there"), "words", "mean")
    expected = embed_names(tiny_clip(HERE), NAMES, tokenizer=Tokenizer(), options=options)
    np.testing.assert_allclose(vectors, expected, 1e-5, 1e-6)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, 1e-6)


def test_an_interrupted_run_goes_on(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words()) == 0
    whole = np.load("out/v.npy")
    shutil.rmtree("out")
    with monkeypatch.context() as patch:
        patch.setattr(CLIPText, "encode_text", stopped_after(100))
        assert main(words()) == 130
    assert os.listdir("out") == ["v.npy.partial"]
    capsys.readouterr()
    assert main(words()) == 2
    assert "--resume goes on from it" in capsys.readouterr().err
    calls: list[Any] = []
    real = CLIPText.encode_text
    monkeypatch.setattr(
        CLIPText, "encode_text", lambda self, tokens: calls.append(1) or real(self, tokens)
    )
    assert main(words("--resume")) == 0
    assert len(calls) == 81 * 3 - 100
    np.testing.assert_array_equal(np.load("out/v.npy"), whole)
    assert sorted(os.listdir("out")) == ["v.json", "v.npy"]


def test_what_is_done_is_saved_while_it_runs(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a kill gives no time to save."""
    monkeypatch.setattr(embedding_files, "SAVE_EVERY", 0.0)
    seen = []
    real = CLIPText.encode_text

    def encode(self: Any, tokens: Any) -> Any:
        if Path("out/v.npy.partial").exists():
            with np.load("out/v.npy.partial") as content:
                seen.append(int(content["batches"]))
        return real(self, tokens)

    monkeypatch.setattr(CLIPText, "encode_text", encode)
    assert main(words("--templates", "single")) == 0
    assert seen == [1, 2]


def test_resume_without_a_beginning_starts(place: Path) -> None:
    assert main(words("--resume", "--templates", "plain")) == 0
    assert np.load("out/v.npy").shape == (5, 12)


@pytest.mark.parametrize("change", ["clip", "names", "templates", "batches", "damage"])
def test_a_foreign_beginning_is_refused(
    change: str,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(CLIPText, "encode_text", stopped_after(5))
        assert main(words()) == 130
    command = words("--resume")
    if change == "clip":
        command = words("--resume", clip=4)
    elif change == "names":
        Path("a.json").write_text('["cat", "dog", "x", "y", "z"]')
    elif change == "templates":
        command += ["--templates", "single"]
    elif change == "batches":
        command += ["--batch-size", "3"]
    else:
        content = Path("out/v.npy.partial").read_bytes()
        Path("out/v.npy.partial").write_bytes(content[: len(content) // 2])
    before = Path("out/v.npy.partial").read_bytes()
    capsys.readouterr()
    assert main(command) == 2
    shown = capsys.readouterr().err
    assert "Invalid partial result out/v.npy.partial" in shown and shown.count("\n") == 1
    assert os.listdir("out") == ["v.npy.partial"]
    assert Path("out/v.npy.partial").read_bytes() == before
    command.remove("--resume")
    assert main([*command, "--overwrite"]) == 0
    assert sorted(os.listdir("out")) == ["v.json", "v.npy"]


def refused(command: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    def contents() -> dict[str, bytes]:
        return {str(p): p.read_bytes() for p in sorted(Path().rglob("*")) if p.is_file()}

    before = contents()
    capsys.readouterr()
    assert main(command) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("unidet: error: ") and shown.count("\n") == 1, shown
    assert text in shown
    assert contents() == before and not Path("out").exists()


@pytest.mark.parametrize(
    ("more", "text"),
    [
        (["--bpe", "absent.gz"], "CLIP's vocabulary not found: absent.gz"),
        (["--bpe", "a.json"], "Invalid vocabulary a.json"),
        (["--templates", "none"], "`templates`"),
        (["--normalise", "all"], "`normalise`"),
        (["--clean", "all"], "`clean`"),
        (["--batch-size", "0"], "`batch_size`"),
        (["--out", "v.npz"], "ends in .npy"),
        (["--out", "a.json/v.npy"], "a.json is no folder"),
        (["--categories", "absent.json"], "File of class names not found: absent.json"),
        (
            ["--categories", "clip3.safetensors"],
            "File of class names is no text in UTF-8: clip3.safetensors",
        ),
        (["--clip", "absent.pt"], "absent.pt"),
        (["--clip", "a.json"], "a.json"),
    ],
)
def test_bad_input_is_refused(
    more: list[str], text: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(words(*more), text, capsys)


def test_without_a_vocabulary_the_error_says_how_to_get_it(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import importlib.util

    monkeypatch.delenv(VARIABLE)
    real = importlib.util.find_spec
    hidden = ("clip", "open_clip")
    monkeypatch.setattr(importlib.util, "find_spec", lambda n: None if n in hidden else real(n))
    refused(words(), "pip install openai-clip", capsys)


def test_a_detector_is_refused(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from unidet.checkpoints.native import Checkpoint, write_checkpoint

    write_checkpoint("d.safetensors", Checkpoint({}, {"name": "resnet18", "arguments": {}}))
    refused(words("--clip", "d.safetensors"), "Expected a CLIP with its text tower", capsys)


def test_results_are_not_replaced_unasked(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words("--templates", "plain")) == 0
    before = Path("out/v.npy").read_bytes()
    assert main(words("--templates", "single")) == 2
    assert main(words("--templates", "single", "--resume")) == 2
    assert Path("out/v.npy").read_bytes() == before
    assert main(words("--templates", "single", "--overwrite")) == 0
    assert Path("out/v.npy").read_bytes() != before


def test_duplicates(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A list that repeats a name is refused; categories of two ids may share one."""
    Path("names.txt").write_text("cat\nBench\nBench\n")
    command = words("--categories", "names.txt", "--templates", "plain")
    refused(command, "'Bench' more than once; --allow-duplicates", capsys)
    assert main([*command, "--allow-duplicates"]) == 0
    assert "warning: names.txt" in capsys.readouterr().err
    categories = [{"id": i, "name": name} for i, name in enumerate(("Bench", "cat", "Bench"))]
    Path("a.json").write_text(json.dumps({"categories": categories}))
    assert main(words("--templates", "plain", "--overwrite")) == 0
    assert "'Bench'" in capsys.readouterr().err
    vectors = np.load("out/v.npy")
    np.testing.assert_array_equal(vectors[0], vectors[2])
    assert (vectors[0] != vectors[1]).any()
