"""`unidet convert`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.convert.helpers import arrays, hollow, same
from unidet.checkpoints.native import load_checkpoint
from unidet.cli.main import main
from unidet.weights_convert import FAMILIES, read_container, write_torch


@pytest.fixture
def published(tmp_path: Path, sample_data: Path) -> Path:
    """A file in yhenon's layout with five classes."""
    path = tmp_path / "published.pth"
    write_torch(path, hollow(sample_data, "yhenon_retinanet_resnet18"))
    return path


def test_both_directions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_torch(tmp_path / "a.pth", {"state_dict": arrays()})
    assert main(["convert", "pt2jt", str(tmp_path / "a.pth"), str(tmp_path / "b.pkl")]) == 0
    assert "9 tensors" in capsys.readouterr().out
    assert main(["convert", "jt2pt", str(tmp_path / "b.pkl"), str(tmp_path / "c.pth")]) == 0
    same(read_container(tmp_path / "c.pth")[0]["state_dict"], arrays())
    assert main(["convert", "jt2pt", str(tmp_path / "b.pkl"), str(tmp_path / "c.pth")]) == 2
    error = capsys.readouterr().err
    assert "which exists" in error and error.count("\n") == 1
    again = ["convert", "jt2pt", str(tmp_path / "b.pkl"), str(tmp_path / "c.pth"), "--overwrite"]
    assert main(again) == 0


@pytest.mark.parametrize("form", ["lines", "list", "annotations"])
def test_import_with_class_names(tmp_path: Path, published: Path, form: str) -> None:
    names = ["cat", "dog", "bus", "car", "bird"]
    content = {
        "lines": "\n".join(names) + "\n\n",
        "list": json.dumps(names),
        "annotations": json.dumps(
            {"categories": [{"id": i, "name": names[i]} for i in (4, 0, 2, 1, 3)]}
        ),
    }
    (tmp_path / "names").write_text(content[form])
    native = tmp_path / "native.safetensors"
    command = ["convert", "import", str(published), str(native), "--classes"]
    assert main([*command, str(tmp_path / "names")]) == 0
    assert load_checkpoint(native).class_names == tuple(names)


@pytest.mark.parametrize("content", ["", "[1, 2]", '{"categories": 3}', '{"a": 1}', "{broken"])
def test_bad_class_names(
    tmp_path: Path, published: Path, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "names").write_text(content)
    native = tmp_path / "native.safetensors"
    command = ["convert", "import", str(published), str(native), "--classes"]
    assert main([*command, str(tmp_path / "names")]) == 2
    error = capsys.readouterr().err
    assert "Invalid class names" in error or "File of class names is not JSON" in error
    assert not native.exists()


def test_export_and_reports(
    tmp_path: Path, published: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    native, back = tmp_path / "native.safetensors", tmp_path / "back.pth"
    assert main(["convert", "import", str(published), str(native), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["counts"]["renamed"] == 156 and report["counts"]["missing"] == 0
    command = ["convert", "export", str(native), str(back), "--to", "yhenon_retinanet", "--table"]
    assert main(command) == 0
    out = capsys.readouterr().out
    assert "neck.extra.1.weight" in out and "fpn.P7_2.weight" in out
    same(read_container(back)[0], read_container(published)[0])
    command[-2] = "mmdet_retinanet"
    assert main(command) == 2
    assert "Its family is yhenon_retinanet" in capsys.readouterr().err


def test_inspect(tmp_path: Path, published: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", "inspect", str(published)]) == 0
    out = capsys.readouterr().out
    for part in (
        "PyTorch zip archive",
        "yhenon_retinanet",
        "retinanet_r18_fpn_yhenon",
        "156 (136 float32, 20 int64)",
        "19,854,225",
    ):
        assert part in out
    assert main(["convert", "inspect", str(published), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["family"] == "yhenon_retinanet" and len(found["tensors"]) == 156
    native = tmp_path / "native.safetensors"
    assert main(["convert", "import", str(published), str(native)]) == 0
    capsys.readouterr()
    assert main(["convert", "inspect", str(native), "--table"]) == 0
    out = capsys.readouterr().out
    assert "a checkpoint of unidet, format 1" in out and "backbone.conv1.weight" in out
    write_torch(tmp_path / "other.pth", {"state_dict": {"a.b": arrays()["half"]}, "epoch": 1})
    assert main(["convert", "inspect", str(tmp_path / "other.pth")]) == 0
    out = capsys.readouterr().out
    assert "1 tensors of an unknown model (a.b" in out and "beside them epoch" in out


def test_errors_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = str(tmp_path / "no.pth")
    for command in (
        ["inspect", missing],
        ["pt2jt", missing, str(tmp_path / "x.pkl")],
        ["import", missing, str(tmp_path / "x.safetensors"), "--from", "mmdet_retinanet"],
        ["export", missing, str(tmp_path / "x.pth"), "--to", "mmdet_retinanet"],
        ["inspekt", missing],
        [],
    ):
        assert main(["convert", *command]) == 2
        captured = capsys.readouterr()
        assert captured.err.startswith("unidet: error: ") and captured.err.count("\n") == 1


def test_help_names_all_families(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["convert", "import", "--help"])
    text = "".join(capsys.readouterr().out.split())
    assert all(name in text for name in FAMILIES)


def test_no_framework_is_imported(tmp_path: Path, published: Path) -> None:
    """All of it works where neither framework is installed."""
    script = f"""
import sys
for name in ("torch", "jittor"):
    sys.modules[name] = None
from unidet.cli.main import main
folder, source = {str(tmp_path)!r}, {str(published)!r}
for command in (
    ["import", source, folder + "/n.safetensors"],
    ["pt2jt", folder + "/n.safetensors", folder + "/n.pkl"],
    ["jt2pt", folder + "/n.pkl", folder + "/n.pth"],
    ["export", folder + "/n.pth", folder + "/back.pth", "--to", "yhenon_retinanet"],
    ["inspect", folder + "/back.pth"],
):
    assert main(["convert", *command]) == 0, command
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    same(read_container(tmp_path / "back.pth")[0], read_container(published)[0])
