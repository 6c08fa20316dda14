"""One changed byte in a state or a checkpoint is noticed, and what is whole still goes on."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import toy
from runs import rows

from unidet.backends.registry import use
from unidet.checkpoints.native import load_checkpoint, read_arrays, write_arrays
from unidet.cli.main import main
from unidet.engine import checkpointing, train
from unidet.engine.checkpointing import Saved, find_state, load_state, save_state
from unidet.engine.progress import Progress
from unidet.engine.run_folder import RunFolder
from unidet.engine.saved_state import EMA, OPTIMIZER, PROGRESS, WEIGHTS, open_state
from unidet.errors import UserError


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("torch")
    work = tmp_path_factory.mktemp("finished") / "run"
    config = toy.config(data, train={"epochs": 1, "ema_decay": 0.9})
    train(config, backend="torch", work_dir=work, quiet=True)
    return work


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    work = tmp_path / "run"
    shutil.copytree(finished, work)
    return work


@pytest.mark.parametrize("tries", [40, pytest.param(300, marks=pytest.mark.slow)])
def test_one_changed_byte_is_noticed(run: Path, tries: int) -> None:
    generation = find_state(run)
    draw = random.Random(7)
    files = [generation / name for name in (WEIGHTS, OPTIMIZER, EMA, PROGRESS)]
    files += [run / "best.safetensors", run / "state" / "current"]
    for number in range(tries):
        path = files[number % len(files)]
        whole = path.read_bytes()
        # Half of the tries hit the header of the file, where most depends on each byte.
        limit = len(whole) if draw.random() < 0.5 else min(len(whole), 2000)
        place, change = draw.randrange(limit), draw.randrange(1, 256)
        damaged = bytearray(whole)
        damaged[place] ^= change
        path.unlink()  # best and last are links
        path.write_bytes(damaged)
        where = f"{path.name}, byte {place}, changed by {change}"
        if path.name in (PROGRESS, "current"):
            _, saved = open_state(run)
            assert saved.progress.step == 4, where
            blank = path.name == "current" and bytes(damaged).strip() == whole.strip()
            assert blank or any(path.name in note for note in saved.notes), where
        elif path.parent == generation:
            with pytest.raises(UserError, match=path.name):
                open_state(run)
        else:
            with pytest.raises(UserError, match=path.name):
                load_checkpoint(path)
        path.write_bytes(whole)
    assert open_state(run)[1].notes == []


def test_the_damaged_tensor_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_arrays(path, {"one": np.ones(3, np.float32), "two": np.full(4, 2, np.float32)}, {})
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"a\.safetensors.*'two' does not fit its checksum"):
        read_arrays(path)


def test_files_without_checksums_and_plain_readers(tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    path = tmp_path / "a.safetensors"
    arrays = {"one": np.arange(3.0), "scalar": np.array(2), "empty": np.zeros((0, 2), np.float32)}
    write_arrays(path, arrays, {"name": "é"})
    for name, array in load_file(path).items():
        np.testing.assert_array_equal(array, arrays[name])
    found, metadata = read_arrays(path)
    assert metadata == {"name": "é"} and found.keys() == arrays.keys()
    save_file(arrays, path, metadata={"unidet": "{}"})
    assert read_arrays(path)[0].keys() == arrays.keys()


def _go_on(run: Path) -> int:
    words = ["train", "--work-dir", str(run), "--resume", "--backend", "torch", "--quiet"]
    return main([*words, "--set", "train.epochs=2"])


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("metrics.jsonl", b"[]\n", "metrics.damaged"),
        ("metrics.jsonl", b'{"step": 1, "loss": "x"}\n\xff\n', "metrics.damaged"),
        ("state/current", b"\xff\xfe", "current is damaged"),
        ("state/current", b"a" * 300, "current is damaged"),
        ("state/current", b"../state", "current is damaged"),
        ("config.yaml", b"\xff[{", "config in"),
        ("config.yaml", b"modle: {name: toy}\n", "config in"),
    ],
)
def test_a_damaged_small_file_blocks_nothing(
    run: Path, name: str, content: bytes, said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    before = (run / name).read_bytes()
    (run / name).write_bytes(content)
    assert _go_on(run) == 0
    error = capfd.readouterr().err
    assert said in error and "Traceback" not in error
    assert load_state(find_state(run)).progress.step == 8
    assert (run / name).read_bytes() != content
    if name == "metrics.jsonl":
        assert (run / "metrics.damaged").read_bytes() == content
        assert [row["step"] for row in rows(run) if "loss" in row] == [5, 6, 7, 8]
    if name == "config.yaml":
        assert (run / "config.damaged.yaml").read_bytes() == content
        assert b"toy" in before and b"toy" in (run / name).read_bytes()


def _without_copy(generation: Path) -> None:
    """Makes the state one of an earlier version."""
    from safetensors.numpy import save_file

    arrays, metadata = read_arrays(generation / WEIGHTS)
    metadata.pop("state")
    save_file(arrays, generation / WEIGHTS, metadata={"unidet": json.dumps(metadata)})
    content = json.loads((generation / PROGRESS).read_text())
    content.pop("ema")
    (generation / PROGRESS).write_text(json.dumps(content))


def _changed(**changes: object) -> Callable[[dict[str, object]], object]:
    return lambda content: {**content, **changes}


def _moved(**changes: object) -> Callable[[dict[str, dict[str, object]]], object]:
    return lambda content: {**content, "progress": {**content["progress"], **changes}}


@pytest.mark.parametrize(
    "change",
    [
        _changed(format_version="1"), _changed(format_version=10**400), _changed(progress="x"),
        _changed(config=5), _changed(backend=None), lambda content: [[content]],
        _moved(step=3.5), _moved(step=-1), _moved(step=True), _moved(epoch="x"),
        _moved(epoch_losses=5), _moved(epoch_losses=["x"]), _moved(window={"loss": None}),
        _moved(best="x"), _moved(best_step=0.5), _moved(metrics=[1]), _moved(plateau={"scale": 1}),
        _moved(watch={"smooth": "x", "lowest": 1, "count": 1}), _moved(scaling={"scale": "x"}),
        _moved(evaluated_step=None), _moved(loss_sum=10**400), _moved(unknown=1),
    ],
)  # fmt: skip
def test_old_states_of_impossible_values_are_one_line(
    run: Path, change: Callable[[object], object]
) -> None:
    generation = find_state(run)
    _without_copy(generation)
    assert open_state(run)[1].progress.step == 4
    path = generation / PROGRESS
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(UserError, match=r"progress\.json"):
        open_state(run)


def test_an_earlier_whole_state_takes_the_place_of_a_damaged_one(run: Path) -> None:
    valid = find_state(run)
    earlier = valid.with_name("step-00000003-abcdef")
    shutil.copytree(valid, earlier)
    (valid / OPTIMIZER).write_bytes(b"\0" * 50)
    place, saved = open_state(run)
    assert place == earlier and saved.name == earlier.name
    assert "An earlier state is taken" in saved.notes[0] and OPTIMIZER in saved.notes[0]


def test_what_is_left_of_a_damaged_state_is_said(run: Path) -> None:
    weights = find_state(run) / WEIGHTS
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(UserError, match=r"weights\.safetensors.*checksum.*best\.safetensors"):
        open_state(run)


def test_a_state_left_by_a_kill_goes_at_the_next_start(run: Path) -> None:
    valid = find_state(run)
    for name in ("step-00000002-aaaaaa", "step-00000009-bbbbbb", ".step-00000009-cccccc.tmp"):
        shutil.copytree(valid, valid.with_name(name))
    assert main(["train", "--work-dir", str(run), "--resume", "--backend", "torch", "--quiet"]) == 0
    assert sorted(p.name for p in (run / "state").iterdir()) == ["current", valid.name]


@pytest.mark.parametrize("seed", range(20))
def test_two_processes_that_save_lose_nothing(
    backend: str, seed: int, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even without the lock: at a random moment of one save the other one saves whole."""
    with use(backend):
        model = toy.Toy(num_classes=2)
    arrays = {"w": np.ones(3, np.float32)}
    folder, draw = RunFolder(run), random.Random(seed)
    steps = [10, 11]
    draw.shuffle(steps)
    moment = draw.choice(("publish", "_remove_older", "current_name", "_write_generation", "link"))
    original = getattr(checkpointing, moment)

    def other_first(*args: object, **options: object) -> object:
        monkeypatch.setattr(checkpointing, moment, original)
        save_state(folder, model, Saved(arrays, {}, Progress(step=steps[1]), {}, backend))
        return original(*args, **options)

    monkeypatch.setattr(checkpointing, moment, other_first)
    save_state(folder, model, Saved(arrays, {}, Progress(step=steps[0]), {}, backend))
    place, saved = open_state(run)
    assert saved.progress.step in steps and saved.notes == []
    assert place == find_state(run)
    assert load_checkpoint(run / "last.safetensors").arrays.keys() == {"w"}


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(
    value: float, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch")
    import unidet
    from unidet.checkpoints.native import save_checkpoint

    arguments = {"num_classes": 2, "fpn_channels": 32, "head_depth": 1}
    model = unidet.create_model("retinanet_r18_fpn", backend="torch", **arguments)
    from unidet.backends import nn

    arrays = nn.state_arrays(model)
    arrays["backbone.conv1.weight"].flat[5] = value
    path, photo = tmp_path / "bad.safetensors", tmp_path / "photo.png"
    save_checkpoint(path, model, arrays=arrays)
    from unidet.visualization import write_image

    write_image(photo, np.full((64, 64, 3), 90, np.uint8))
    with pytest.raises(UserError, match=r"1 of \d+ numbers .* in backbone\.conv1\.weight"):
        unidet.Detector(path, backend="torch")
    unidet.Detector(path, backend="torch", allow_non_finite=True)
    words = ["predict", str(path), str(photo), "--backend", "torch", "--out", str(tmp_path / "o")]
    assert main([*words, "--no-pictures"]) == 2
    assert "backbone.conv1.weight" in capfd.readouterr().err
    assert not (tmp_path / "o").exists()
    out = tmp_path / "p.npz"
    data = ["--images", str(tmp_path), "--out", str(out)]
    (tmp_path / "a.json").write_text(
        '{"images": [{"id": 1, "file_name": "photo.png"}], "annotations": [], "categories": []}'
    )
    proposals = ["proposals", str(path), "--data", str(tmp_path / "a.json"), *data]
    assert main([*proposals, "--backend", "torch"]) == 2
    assert "--allow-non-finite of predict" in capfd.readouterr().err
