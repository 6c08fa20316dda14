"""The eval and predict commands on a small checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from unidet.cli.main import main
from unidet.visualization import read_image


def test_predict_draws_and_writes_coco_form(
    backend: str, checkpoint: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = ["predict", str(checkpoint), str(photos), "--out", str(out), "--backend", backend]
    assert main([*words, "--score-threshold", "0.05"]) == 0
    content = json.loads((out / "predictions.json").read_text())
    assert [i["file_name"] for i in content["images"]] == [
        str(photos / "1.png"),
        str(photos / "2.png"),
    ]
    assert content["categories"][2] == {"id": 2, "name": "bus"}
    assert content["annotations"]
    assert {a["image_id"] for a in content["annotations"]} <= {1, 2}
    assert min(a["score"] for a in content["annotations"]) >= 0.05
    assert (read_image(out / "1.png") != read_image(photos / "1.png")).any()
    assert f"{photos / '1.png'}: " in capsys.readouterr().out


def test_eval_prints_the_table_and_writes_files(
    backend: str, checkpoint: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["eval", str(checkpoint), "--data", str(photos / "annotations.json")]
    words += ["--images", str(photos), "--backend", backend, "--json", str(tmp_path / "m.json")]
    words += ["--results", str(tmp_path / "r.json"), "--pictures", str(tmp_path / "pictures")]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert printed.count("Average Precision") == 6
    assert printed.count("Average Recall") == 6
    metrics = json.loads((tmp_path / "m.json").read_text())
    assert -1 <= metrics["metrics"]["AP"] <= 1
    results = json.loads((tmp_path / "r.json").read_text())
    assert {r["image_id"] for r in results} == {10, 20}
    assert {r["category_id"] for r in results} <= {5, 6, 7}
    assert max(sum(r["image_id"] == i for r in results) for i in (10, 20)) <= 100
    assert sorted(p.name for p in (tmp_path / "pictures").iterdir()) == ["1.jpg", "2.jpg"]
    check = ["eval", "--check-results", str(tmp_path / "r.json")]
    assert main([*check, "--data", str(photos / "annotations.json")]) == 0
    assert "OK" in capsys.readouterr().out


def test_check_of_bad_results_fails(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = [{"image_id": 99, "category_id": 5, "bbox": [0, 0, -1, 5], "score": 2}]
    (tmp_path / "bad.json").write_text(json.dumps(bad))
    words = ["eval", "--check-results", str(tmp_path / "bad.json")]
    assert main([*words, "--data", str(photos / "annotations.json")]) == 1
    printed = capsys.readouterr().out
    for kind in ("unknown image ids", "negative sizes", "scores outside [0, 1]"):
        assert f"{kind}: 1" in printed


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["eval", "x.safetensors"], "Missing option --data"),
        (["eval", "--data", "x.json"], "Missing argument CHECKPOINT"),
        (["eval", "x.safetensors", "--data", "x.json"], "Missing option --images"),
        (["eval", "--check-results", "x", "--data", "absent.json"], "absent.json"),
        (["predict", "x.safetensors", "absent.jpg"], "absent.jpg"),
        (["plot", "absent"], "absent"),
        (["compare", "absent"], "absent"),
        (["parity", "no_model"], "no_model"),
    ],
)
def test_bad_input_exits_with_2(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
