"""Files that PyTorch itself has written."""

from __future__ import annotations

import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

from tests.convert.helpers import arrays, same
from unidet.weights_convert import CheckpointError, UnsafePickleError, find_state, read_container

torch = pytest.importorskip("torch")


class Net(torch.nn.Module):
    """A module whose class is not on any allow-list."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3)
        self.bn = torch.nn.BatchNorm2d(4)
        self.register_buffer("scratch", torch.ones(2), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.bn(self.conv(x))


def _state() -> dict[str, torch.Tensor]:
    base = torch.arange(24.0).reshape(4, 6)
    state = OrderedDict((k, torch.from_numpy(v)) for k, v in arrays().items())
    state["transposed"] = base.t()
    state["sliced"] = base[1:, ::2]
    state["shared"] = base[2]
    state["expanded"] = torch.ones(1, 3).expand(5, 3)
    state["parameter"] = torch.nn.Parameter(base[:1].clone())
    return state


@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
def test_every_layout_and_dtype(tmp_path: Path, new: bool) -> None:
    state = _state()
    tree = {"state_dict": state, "meta": {"names": ("a", "b"), "epoch": 3, "lr": 0.1}}
    torch.save(tree, tmp_path / "x.pth", _use_new_zipfile_serialization=new)
    content, info = read_container(tmp_path / "x.pth")
    assert info.kind == ("torch_zip" if new else "torch_legacy")
    assert content["meta"] == tree["meta"]
    same(content["state_dict"], {k: v.detach().numpy() for k, v in state.items()})
    assert all(array.flags.c_contiguous for array in content["state_dict"].values())


@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
def test_bfloat16_is_widened_exactly_and_noted(tmp_path: Path, new: bool) -> None:
    value = torch.randn(3, 5, generator=torch.Generator().manual_seed(0)).bfloat16()
    torch.save({"x": value.t()}, tmp_path / "x.pth", _use_new_zipfile_serialization=new)
    content, info = read_container(tmp_path / "x.pth")
    same(content, {"x": value.t().float().numpy()})
    assert "1 bfloat16 tensors were widened" in info.notes[0]


def test_dtypes_without_a_storage_class(tmp_path: Path) -> None:
    torch.save({"x": torch.arange(5).to(torch.uint16)}, tmp_path / "x.pth")
    same(read_container(tmp_path / "x.pth")[0], {"x": np.arange(5, dtype=np.uint16)})


def test_files_without_checksums(tmp_path: Path) -> None:
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"x": torch.ones(9)}, tmp_path / "x.pth")
    finally:
        torch.serialization.set_crc32_options(before)
    same(read_container(tmp_path / "x.pth")[0], {"x": np.ones(9, np.float32)})


def test_big_endian_files(tmp_path: Path) -> None:
    torch.save({"x": torch.arange(4.0)}, tmp_path / "x.pth")
    with (
        zipfile.ZipFile(tmp_path / "x.pth") as source,
        zipfile.ZipFile(tmp_path / "big.pth", "w") as target,
    ):
        for name in source.namelist():
            content = source.read(name)
            if name.endswith("byteorder"):
                content = b"big"
            elif "/data/" in name:
                content = np.frombuffer(content, "<f4").astype(">f4").tobytes()
            target.writestr(name, content)
    same(read_container(tmp_path / "big.pth")[0], {"x": np.arange(4, dtype=np.float32)})


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_torchscript_archives_give_their_tensors(tmp_path: Path) -> None:
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)).half().eval()
    torch.jit.save(torch.jit.trace(net, torch.ones(1, 3, 5, 5).half()), str(tmp_path / "x.pt"))
    content, info = read_container(tmp_path / "x.pt")
    assert info.kind == "torchscript"
    same(content, {k: v.numpy() for k, v in net.state_dict().items()})


@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("parallel", [False, True])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_whole_modules_are_rescued_only_on_request(
    tmp_path: Path, new: bool, parallel: bool
) -> None:
    net = Net()
    saved = torch.nn.DataParallel(net) if parallel else net
    torch.save(saved, tmp_path / "x.pt", _use_new_zipfile_serialization=new)
    with pytest.raises(UnsafePickleError, match="not on the allow-list"):
        read_container(tmp_path / "x.pt")
    content, _ = read_container(tmp_path / "x.pt", rescue=True)
    state = find_state(content)
    same(state.arrays, {k: v.numpy() for k, v in net.state_dict().items()})
    assert state.prefix == ("module." if parallel else "")


def test_rescue_names_what_it_leaves_out(tmp_path: Path) -> None:
    from types import SimpleNamespace

    tree = {"model": {"x": torch.ones(2)}, "args": SimpleNamespace(lr=1)}
    torch.save(tree, tmp_path / "x.pth")
    with pytest.raises(UnsafePickleError) as caught:
        read_container(tmp_path / "x.pth")
    assert caught.value.name == "types.SimpleNamespace"
    content, info = read_container(tmp_path / "x.pth", rescue=True)
    same(content["model"], {"x": np.ones(2, np.float32)})
    assert "args" not in content and "args (types.SimpleNamespace)" in info.notes[0]


def test_compressed_archives_are_explained(tmp_path: Path) -> None:
    torch.save({"x": torch.ones(99)}, tmp_path / "x.pth")
    with (
        zipfile.ZipFile(tmp_path / "x.pth") as source,
        zipfile.ZipFile(tmp_path / "y.pth", "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for name in source.namelist():
            target.writestr(name, source.read(name))
    with pytest.raises(CheckpointError, match="compressed"):
        read_container(tmp_path / "y.pth")
