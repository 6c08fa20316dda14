"""TorchScript archives: tensors out, nothing in."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests.convert.helpers import arrays, same
from tests.convert.open_world import write_torchscript
from unidet.weights_convert import CheckpointError, UnsafePickleError, find_state, read_container

STATE = {
    "visual.conv1.weight": arrays()["half"],
    "visual.layer1.0.downsample.0.weight": arrays()["conv.weight"],
    "visual.layer1.0.downsample.1.num_batches_tracked": arrays()["count"],
    "logit_scale": np.array(4.6, np.float32),
    "input_resolution": np.array(224),
}


def _archive(path: Path, pickled: bytes, *, root: str = "RN50", constants: bytes = b"") -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{root}/data.pkl", pickled)
        archive.writestr(f"{root}/code/__torch__.py", b"raise SystemExit\n")
        archive.writestr(f"{root}/constants.pkl", constants or b"\x80\x02).")


def test_modules_become_dotted_names(tmp_path: Path) -> None:
    write_torchscript(tmp_path / "RN50.pt", STATE)
    content, info = read_container(tmp_path / "RN50.pt")
    assert info.kind == "torchscript"
    same(find_state(content).arrays, STATE)


def _object(attributes: bytes, name: str = "__torch__.clip\nCLIP") -> bytes:
    return b"\x80\x02c" + name.encode() + b"\n)\x81}(" + attributes + b"ub."


def _attribute(value: bytes) -> bytes:
    return b"X\x01\x00\x00\x00x" + value


@pytest.mark.parametrize("rescue", [False, True])
@pytest.mark.parametrize(
    "value",
    [
        b"cposix\nsystem\n(X\x08\x00\x00\x00touch {}tR",
        b"cbuiltins\nexec\n(X\x08\x00\x00\x00touch {}tR",
        b"c__builtin__\ngetattr\n(c__torch__.clip\nCLIP\nX\x07\x00\x00\x00__new__tR",
        b"ctorch.jit._pickle\nexec\n(tR",
        b"ctorch.jit\nload\n(X\x01\x00\x00\x00atR",
        b"cos\nsystem\n)\x81",
    ],
)
def test_hostile_archives_are_refused(tmp_path: Path, value: bytes, rescue: bool) -> None:
    marker = tmp_path / "ran"
    command = b"touch " + str(marker).encode()
    value = value.replace(b"\x08\x00\x00\x00touch {}", bytes([len(command), 0, 0, 0]) + command)
    _archive(tmp_path / "x.pt", _object(_attribute(value)))
    if rescue:  # as any pickle of whole objects: inert
        assert read_container(tmp_path / "x.pt", rescue=True)[0] == {}
    else:
        with pytest.raises(UnsafePickleError, match="Nothing was executed"):
            read_container(tmp_path / "x.pt")
    assert not marker.exists()


def test_a_namespace_like_torchscripts_reaches_nothing(tmp_path: Path) -> None:
    """Names under __torch__ stand for inert objects, whatever they are called with."""
    marker = tmp_path / "ran"
    text = str(marker).encode()
    call = b"c__torch__os\nsystem\n(X" + bytes([len(text), 0, 0, 0]) + text + b"tR"
    _archive(tmp_path / "x.pt", _object(_attribute(call)))
    assert read_container(tmp_path / "x.pt")[0] == {}
    assert not marker.exists()


def test_constants_and_code_are_not_read(tmp_path: Path) -> None:
    hostile = b"\x80\x02cposix\nsystem\n(X\x02\x00\x00\x00idtR."
    _archive(tmp_path / "x.pt", _object(b""), constants=hostile)
    assert read_container(tmp_path / "x.pt")[0] == {}


def test_a_script_class_counts_only_in_a_script_archive(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.pth", "w") as archive:
        archive.writestr("archive/data.pkl", _object(b""))
    with pytest.raises(UnsafePickleError, match=r"__torch__\.clip\.CLIP"):
        read_container(tmp_path / "x.pth")


def test_an_archive_that_contains_itself(tmp_path: Path) -> None:
    body = b"\x80\x02c__torch__.clip\nCLIP\n)\x81q\x00}(" + _attribute(b"h\x00") + b"ub."
    _archive(tmp_path / "x.pt", body)
    with pytest.raises(CheckpointError, match="contains itself"):
        read_container(tmp_path / "x.pt")


def test_a_cut_off_archive(tmp_path: Path) -> None:
    write_torchscript(tmp_path / "a.pt", STATE)
    content = (tmp_path / "a.pt").read_bytes()
    for offset in range(0, len(content), max(1, len(content) // 40)):
        (tmp_path / "b.pt").write_bytes(content[:offset])
        with pytest.raises(CheckpointError, match=r"b\.pt"):
            read_container(tmp_path / "b.pt")


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("how", ["script", "trace"])
def test_archives_of_torch_itself(tmp_path: Path, how: str) -> None:
    torch = pytest.importorskip("torch")

    class Inner(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 4, 3, bias=False)
            self.down = torch.nn.Sequential(torch.nn.Identity(), torch.nn.BatchNorm2d(4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.down(self.conv(x))

    class Outer(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.visual = Inner()
            self.scale = torch.nn.Parameter(torch.tensor(4.6))
            self.register_buffer("vocab_size", torch.tensor(49408))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.visual(x) * self.scale + self.vocab_size

    net = Outer().half().eval()
    net.visual.down.float()
    net.vocab_size = net.vocab_size.long()

    class Cast(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.float()

    net.visual.down[0] = Cast()
    made = (
        torch.jit.script(net)
        if how == "script"
        else torch.jit.trace(net, torch.ones(1, 3, 5, 5).half())
    )
    torch.jit.save(made, str(tmp_path / "x.pt"))
    content, info = read_container(tmp_path / "x.pt")
    assert info.kind == "torchscript"
    same(
        find_state(content).arrays, {key: value.numpy() for key, value in net.state_dict().items()}
    )
