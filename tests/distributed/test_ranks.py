"""Two ranks train as one does; a rank that fails or is killed ends them all."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from tests.distributed.launching import (
    RANKS,
    finish,
    needs_launcher,
    ranks_of,
    run,
    start,
    train_words,
    wait_until,
)
from tests.engine.runs import losses, rows
from unidet.checkpoints.native import load_checkpoint
from unidet.config import load_config
from unidet.data.order import plan_batches
from unidet.engine import setup

#: A detector without running statistics, on small pictures.
SMALL = {
    "model": {
        "name": "retinanet_r18_fpn",
        "arguments": {
            "fpn_channels": 32,
            "head_channels": 32,
            "head_depth": 1,
            "head_groups": 4,
            "norm_eval": True,
            "score_threshold": 0.0,
            "preprocess": {"resize": "none"},
        },
    },
    "data": {
        "format": "scenes",
        "batch_size": 3,
        "scenes": {"train_images": 7, "val_images": 3, "height": 64, "width": 64},
    },
    "optimizer": {"name": "sgd", "lr": 0.001, "momentum": 0.9, "weight_decay": 0.0001},
    "train": {"epochs": 2, "log_every": 1, "clip_grad_norm": 5.0, "ema_decay": 0.9},
    "evaluation": {"losses": True},
}
#: All proposals learn: two of nearly one score that change places would change the sample.
TWO_STAGE = {
    "name": "faster_rcnn_r18_fpn",
    "arguments": {
        **{"fpn_channels": 32, "head_channels": 64, "norm": "frozen", "score_threshold": 0.0},
        **{"rpn_pre_nms_train": 2000, "rpn_post_nms_train": 2000, "rpn_nms_iou": 1.0},
        **{"roi_batch": 2100, "preprocess": {"resize": "none"}},
    },
}


def written(folder: Path, values: dict[str, Any], bare: int = 0) -> str:
    """A config file, and the generated scenes that it trains on.

    Args:
        folder: where both go.
        values: of the config.
        bare: so many batches of the first epoch lose all their objects; of as many more, the
            second half of their images does, which is the second rank's part.
    """
    values = {**values, "data": {**values["data"], "root": str(folder / "data")}}
    path = folder / "chosen.yaml"
    path.write_text(yaml.safe_dump(values))
    config = load_config(str(path))
    (made,) = setup.load_datasets(config, "train", folder)
    setup.load_datasets(config, "val", folder)
    size = config.data.batch_size
    plan = plan_batches(
        len(made), size, seed=config.train.seed, epoch=0, shuffle=True, drop_last=False
    )
    gone = {made.images[i].id for batch in plan[:bare] for i in batch}
    gone |= {made.images[i].id for batch in plan[bare : 2 * bare] for i in batch[size // 2 :]}
    annotations = folder / "data" / "train" / "annotations.json"
    content = json.loads(annotations.read_text())
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] not in gone]
    annotations.write_text(json.dumps(content))
    return str(path)


@pytest.fixture
def config(tmp_path: Path) -> str:
    return written(tmp_path, SMALL, bare=1)


def assert_same_run(one: Path, other: Path, bound: float = 1e-5) -> None:
    """Losses and weights, the latter against the norm of all of them."""
    np.testing.assert_allclose(losses(one), losses(other), rtol=bound)
    for name in ("last.safetensors", "last_ema.safetensors"):
        if (one / name).exists():
            a, b = (load_checkpoint(folder / name).arrays for folder in (one, other))
            apart = np.sqrt(sum(((a[k].astype(float) - b[k]) ** 2).sum() for k in a))
            size = np.sqrt(sum((a[k].astype(float) ** 2).sum() for k in a))
            assert apart <= bound * size


def test_two_ranks_train_as_one_does(backend: str, config: str, tmp_path: Path) -> None:
    """Batches of three and one: uneven parts, none with an object, a rank without an image."""
    needs_launcher(backend)
    one, two = tmp_path / "one", tmp_path / "two"
    run(backend, 1, train_words(backend, one, config))
    output = run(backend, RANKS, train_words(backend, two, config))
    assert "2 ranks share each batch of 3 images" in output
    assert output.count("epoch losses:") == 1  # one rank speaks
    assert_same_run(one, two)
    assert [sorted(row) for row in rows(one)] == [sorted(row) for row in rows(two)]
    scores = [json.loads((folder / "evaluation.json").read_text()) for folder in (one, two)]
    for name, value in scores[0]["metrics"].items():
        assert scores[1]["metrics"][name] == pytest.approx(value, abs=1e-4), name


@pytest.mark.slow
def test_two_ranks_evaluate_as_one_does(backend: str, config: str, tmp_path: Path) -> None:
    """Three images: one rank has two of them, or one has all."""
    needs_launcher(backend)
    run(backend, 1, train_words(backend, tmp_path / "run", config, train__max_steps=1))
    data = tmp_path / "data" / "val"
    found = []
    for ranks in (1, RANKS):
        words = ["eval", str(tmp_path / "run" / "last.safetensors"), "--backend", backend]
        words += ["--data", str(data / "annotations.json"), "--images", str(data / "images")]
        words += ["--batch-size", "2", "--results", str(tmp_path / f"{ranks}.json")]
        output = run(backend, ranks, words)
        assert output.count("images a second") == 1
        found.append(json.loads((tmp_path / f"{ranks}.json").read_text()))
    assert {one["image_id"] for one in found[0]} == {1, 2, 3}
    assert [one["image_id"] for one in found[0]] == [one["image_id"] for one in found[1]]
    scores = [[one["score"] for one in results] for results in found]
    np.testing.assert_allclose(scores[1], scores[0], atol=1e-5)


@pytest.mark.slow
def test_a_killed_rank_ends_all_and_another_number_goes_on(
    backend: str, config: str, tmp_path: Path
) -> None:
    needs_launcher(backend)
    long = {"train__epochs": 6, "train__checkpoint_every": 1}
    whole, work = tmp_path / "whole", tmp_path / "work"
    run(backend, 1, train_words(backend, whole, config, **long))
    process = start(backend, RANKS, train_words(backend, work, config, **long))
    # A step of one's choice, after the first and well before the last.
    last = random.randrange(2, 8)
    wait_until(lambda: _saved(work) >= last, process)
    os.kill(ranks_of(process)[1], signal.SIGKILL)
    started = time.monotonic()
    status, output = finish(process, 60)
    assert status != 0 and time.monotonic() - started < 30
    told = [line for line in output.splitlines() if line.startswith("unidet: ")]
    if backend == "torch":
        assert len(told) == 1 and "Another rank failed or was killed" in told[0], output
    else:
        assert not told and "signal 9 (Killed)" in output, output
    # One rank goes on from there, then two again.
    step = _saved(work)
    half = ["--resume", "--set", f"train.max_steps={min(step + 4, 17)}"]
    run(backend, 1, [*train_words(backend, work, config, **long), *half])
    run(backend, RANKS, [*train_words(backend, work, config, **long), "--resume"])
    assert_same_run(whole, work, 1e-4)


def _saved(folder: Path) -> int:
    try:
        return int((folder / "state" / "current").read_text()[5:13])
    except (OSError, ValueError):
        return 0


def test_the_rank_that_fails_tells_why(backend: str, config: str, tmp_path: Path) -> None:
    """A damaged image that one rank alone meets; and what all ranks meet is told once."""
    needs_launcher(backend)
    work = tmp_path / "work"
    for image in sorted((tmp_path / "data" / "train" / "images").iterdir())[:3]:
        image.write_bytes(b"not a picture")
    status, output = finish(start(backend, RANKS, train_words(backend, work, config)), 60)
    told = [line for line in output.splitlines() if line.startswith("unidet: ")]
    assert status != 0 and len(told) == 1, output
    assert told[0].startswith("unidet: rank ") and "images" in told[0]
    if backend == "torch":  # mpirun leaves rank 0 no time to clear away what it began
        assert not work.exists() or not [p for p in work.iterdir() if p.name != "data"]
    status, output = finish(start(backend, RANKS, train_words(backend, work, "no_such_config")), 60)
    assert status != 0 and output.count("unidet: rank") == 1, output


@pytest.mark.slow
@pytest.mark.parametrize("chosen", ["retinanet", "faster_rcnn"])
def test_twenty_steps(backend: str, chosen: str, tmp_path: Path) -> None:
    """The first five batches hold no object, the next five none on the second rank."""
    needs_launcher(backend)
    values = {**SMALL, "train": {"epochs": 1, "max_steps": 20, "log_every": 1, "eval_every": 0}}
    values["data"] = {**SMALL["data"], "batch_size": 4}
    values["data"]["scenes"] = {**SMALL["data"]["scenes"], "train_images": 80}
    values["optimizer"] = {**SMALL["optimizer"], "lr": 0.0005}
    if chosen == "faster_rcnn":
        # At higher rates rounding grows by itself: a proposal crosses a limit of overlap.
        values["model"], values["optimizer"]["lr"] = TWO_STAGE, 0.0002
    config = written(tmp_path, values, bare=5)
    for name, ranks in (("one", 1), ("two", RANKS)):
        run(backend, ranks, train_words(backend, tmp_path / name, config))
    assert len(losses(tmp_path / "one")) == 20
    assert_same_run(tmp_path / "one", tmp_path / "two")


@pytest.mark.parametrize(("launcher", "own"), [("torchrun", "jittor"), ("mpirun", "torch")])
def test_the_other_framework_s_launcher_is_refused(
    launcher: str, own: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from unidet.backends.parallel import ranks

    names = {
        "torchrun": ("RANK", "WORLD_SIZE"),
        "mpirun": ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    }
    for name, value in zip(names[launcher], ("0", "2")):
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=f"Expected that of {launcher}"):
        ranks.join(own, "cpu")


@pytest.mark.slow
def test_norms_over_the_images_of_all_ranks(backend: str, tmp_path: Path) -> None:
    """Uneven parts, running statistics included; without it the ranks would depart at once."""
    needs_launcher(backend)
    model = {**SMALL["model"], "arguments": {**SMALL["model"]["arguments"], "norm_eval": False}}
    train = {"epochs": 1, "log_every": 1, "eval_every": 0, "sync_batch_norm": True}
    values = {**SMALL, "model": model, "train": train, "evaluation": {}}
    values["data"] = {**SMALL["data"], "drop_last": True}
    config = written(tmp_path, values)
    for name, ranks in (("one", 1), ("two", RANKS)):
        run(backend, ranks, train_words(backend, tmp_path / name, config))
    assert_same_run(tmp_path / "one", tmp_path / "two")
    if backend == "torch":
        # Statistics of half maps are taken in single precision.
        for amp, name in (("bf16", "half"), ("fp16", "scaled")):
            words = train_words(backend, tmp_path / name, config, train__amp=amp)
            run(backend, RANKS, words)
            half, full = losses(tmp_path / name), losses(tmp_path / "one")
            np.testing.assert_allclose(half, full, rtol=0.03)


def test_a_batch_smaller_than_the_ranks_is_refused(
    config: str, tmp_path: Path, backend: str
) -> None:
    needs_launcher(backend)
    words = train_words(backend, tmp_path / "work", config, data__batch_size=1)
    status, output = finish(start(backend, RANKS, words), 90)
    assert status != 0 and output.count("Invalid value for `data.batch_size`") == 1, output
    assert not list((tmp_path / "work").glob("*.safetensors"))
