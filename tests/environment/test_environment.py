"""The process around Jittor: what is set, what is restored, and what a broken machine is told."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

import pytest

from unidet.backends import available
from unidet.backends.registry import BackendNotAvailableError

if "jittor" not in available():  # what follows needs it to be imported
    pytest.skip("jittor is not installed", allow_module_level=True)

from unidet.backends.jittor import environment


def run(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter with the same cache, without what this process has set."""
    ours = ("log_silent", "nvcc_path", "cc_flags", "kernel_flags", "FIX_TORCH_ERROR", "cache_name")
    kept = {name: value for name, value in os.environ.items() if name not in ours}
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**kept, **variables},
        capture_output=True,
        text=True,
        timeout=900,
    )


def succeed(code: str, **variables: str) -> str:
    result = run(code, **variables)
    assert result.returncode == 0, result.stderr
    return result.stdout


ORDERS = {
    "torch first": "import torch\nfrom unidet.backends.jittor import jt",
    "jittor first": "from unidet.backends.jittor import jt\nimport torch",
}


@pytest.mark.usefixtures("both")
@pytest.mark.parametrize("order", ORDERS)
def test_both_frameworks_compute_in_one_process(order):
    code = ORDERS[order] + textwrap.dedent(
        """
        import numpy as np
        x, w = np.ones((1, 3, 8, 8), np.float32), np.ones((2, 3, 3, 3), np.float32)
        for _ in range(2):
            a = jt.nn.conv2d(jt.array(x), jt.array(w)).numpy()
            b = torch.conv2d(torch.from_numpy(x), torch.from_numpy(w)).numpy()
            assert (a == 27).all() and (b == 27).all()
            assert jt.matmul(jt.ones((4, 4)), jt.ones((4, 4))).numpy().sum() == 64
            assert (torch.ones(4, 4) @ torch.ones(4, 4)).sum() == 64
        """
    )
    succeed(code)


def test_import_is_quiet_and_restores_what_it_touches():
    result = run(
        """
        import random, ssl, sys
        import numpy as np
        random.seed(1); np.random.seed(2)
        before = random.getstate(), np.random.get_state()[1].tolist(), sys.getrecursionlimit()
        context = ssl._create_default_https_context
        from unidet.backends.jittor import jt
        after = random.getstate(), np.random.get_state()[1].tolist(), sys.getrecursionlimit()
        assert before == after
        assert ssl._create_default_https_context is context
        assert "torch" not in sys.modules
        """
    )
    assert result.returncode == 0, result.stderr
    noise = [
        line for line in result.stderr.splitlines() if line and "waiting for another" not in line
    ]
    assert not noise and not result.stdout


def test_kernels_keep_nan_and_infinity():
    """Jittor's own flags make x != x false; removing -Ofast would make exp six times slower."""
    out = succeed(
        """
        import numpy as np
        from unidet.backends.jittor import jt
        x = jt.array(np.array([1, np.nan, np.inf, -np.inf] * 8, np.float32))
        print((x != x).numpy()[:4].tolist(), np.isnan((x - x).numpy())[:4].tolist())
        values = jt.exp(x).numpy()
        print(np.isnan(values[1]), values[2], values[3], abs(values[0] - np.e) < 1e-6)
        """
    )
    assert out.splitlines() == [
        "[False, True, False, False] [False, True, True, True]",
        "True inf 0.0 True",
    ]


def test_kernels_call_the_vector_exp():
    """Without it an elementwise chain takes six times as long."""
    source = (
        "#include <cmath>\nvoid f(float* x, int n) {for (int i = 0; i < n; i++) x[i] = exp(x[i]);}"
    )
    flags = [*environment.KERNEL_FLAGS.split(), "-fopenmp", "-march=native", "-S", "-o", "-"]
    assembly = subprocess.run(
        ["g++", "-x", "c++", "-", *flags], input=source, capture_output=True, text=True, check=True
    ).stdout
    assert "_ZGV" in assembly
    assert environment.KERNEL_FLAGS.strip() in environment.load().flags.cc_flags


def test_user_settings_win(monkeypatch):
    monkeypatch.setenv("log_silent", "0")
    monkeypatch.setenv("nvcc_path", "/somewhere/nvcc")
    environment.prepare()
    assert (os.environ["log_silent"], os.environ["nvcc_path"]) == ("0", "/somewhere/nvcc")  # noqa: SIM112


def test_nvcc_without_a_gpu_is_left_alone(monkeypatch):
    monkeypatch.delenv(environment.CUDA_VARIABLE, raising=False)
    monkeypatch.setattr(environment.glob, "glob", lambda pattern: [])
    monkeypatch.setattr(environment.shutil, "which", lambda name: f"/usr/bin/{name}")
    assert not environment.cuda_usable()
    monkeypatch.delenv("nvcc_path", raising=False)
    environment.prepare()
    assert os.environ["nvcc_path"] == ""  # noqa: SIM112


@pytest.mark.parametrize(
    ("record", "version"),
    [('{"cuda": {"version": "13.0.88"}}', 13), ('{"cuda": {"version": "x"}}', None), ("[]", None)],
)
def test_a_toolkit_too_new_for_jittor_is_left_alone(monkeypatch, tmp_path, record, version):
    nvcc = tmp_path / "bin" / "nvcc"
    nvcc.parent.mkdir()
    nvcc.touch()
    (tmp_path / "version.json").write_text(record)
    monkeypatch.delenv(environment.CUDA_VARIABLE, raising=False)
    monkeypatch.setattr(environment.glob, "glob", lambda pattern: ["/dev/nvidia0"])
    monkeypatch.setattr(environment.shutil, "which", lambda name: str(nvcc))
    monkeypatch.setattr(environment, "_loads", lambda name, candidates: True)
    assert environment.cuda_version() == version
    assert environment.cuda_usable() == (version is None)


@pytest.mark.parametrize("value", ["0", "1"])
def test_cuda_can_be_forced(monkeypatch, value):
    monkeypatch.setenv(environment.CUDA_VARIABLE, value)
    assert environment.cuda_usable() == (value == "1")


def test_home_follows_variable_then_record_then_user(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("JITTOR_HOME", raising=False)
    assert environment.jittor_home() == tmp_path
    config = tmp_path / ".cache" / "jittor" / "config.json"
    config.parent.mkdir(parents=True)
    config.write_text('{"JITTOR_HOME": "/recorded"}')
    assert environment.jittor_home() == Path("/recorded")
    monkeypatch.setenv("JITTOR_HOME", "/chosen")
    assert environment.jittor_home() == Path("/chosen")
    config.write_text("{damaged")
    monkeypatch.delenv("JITTOR_HOME")
    assert environment.jittor_home() == tmp_path


def test_jittor_home_is_not_recorded_for_later_runs(tmp_path):
    """Jittor writes JITTOR_HOME into the user's config when it is first set."""
    (tmp_path / "elsewhere").mkdir()
    out = succeed(
        """
        import importlib.util, pathlib, sys
        spec = importlib.util.find_spec("unidet.backends")
        path = pathlib.Path(spec.submodule_search_locations[0], "jittor", "environment.py")
        spec = importlib.util.spec_from_file_location("environment_alone", path)
        environment = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(environment)
        environment.prepare()
        with environment._config_restored():
            import jittor_utils
        config = pathlib.Path.home() / ".cache" / "jittor" / "config.json"
        print(config.exists(), jittor_utils.home())
        """,
        HOME=str(tmp_path),
        JITTOR_HOME=str(tmp_path / "elsewhere"),
    )
    assert out.split() == ["False", str(tmp_path / "elsewhere")]


@pytest.fixture
def wheels(monkeypatch, tmp_path) -> Path:
    """A prefix that looks as if the oneDNN wheels were installed."""
    prefix = tmp_path / "prefix"
    (prefix / "lib").mkdir(parents=True)
    (prefix / "include" / "oneapi" / "dnnl").mkdir(parents=True)
    (prefix / "lib" / "libdnnl.so.2.2").write_bytes(b"library")
    (prefix / "lib" / "libdnnl.so").symlink_to("libdnnl.so.2.2")
    (prefix / "lib" / "libmkldnn.so").symlink_to("libdnnl.so.2.2")
    (prefix / "lib" / "libother.so").write_bytes(b"")
    for name in ("mkldnn.hpp", "dnnl.hpp", "oneapi/dnnl/dnnl.hpp", "unrelated.h"):
        (prefix / "include" / name).write_text(name)
    monkeypatch.setattr(environment.sys, "prefix", str(prefix))
    return prefix


def test_onednn_is_placed_where_jittor_looks(wheels, tmp_path):
    home = tmp_path / "home"
    folder = environment.place_onednn(home)
    assert folder == home / ".cache/jittor/mkl/dnnl_lnx_2.2.0_cpu_gomp"
    assert (folder / "lib" / "libmkldnn.so").read_bytes() == b"library"
    assert (folder / "include" / "oneapi" / "dnnl" / "dnnl.hpp").is_file()
    assert not (folder / "lib" / "libother.so").exists()
    assert not (folder / "include" / "unrelated.h").exists()
    # The cache outlives the environment that filled it.
    (wheels / "lib" / "libdnnl.so.2.2").unlink()
    assert environment.place_onednn(home) == folder
    assert (folder / "lib" / "libmkldnn.so").read_bytes() == b"library"


def test_half_made_onednn_is_replaced(wheels, tmp_path):
    broken = tmp_path / ".cache/jittor/mkl" / environment.ONEDNN_FOLDER
    (broken / "lib").mkdir(parents=True)
    (broken / "lib" / "libmkldnn.so").symlink_to(tmp_path / "gone")
    folder = environment.place_onednn(tmp_path)
    assert (folder / "lib" / "libmkldnn.so").read_bytes() == b"library"


def test_missing_onednn_names_the_wheels(wheels, tmp_path):
    (wheels / "lib" / "libmkldnn.so").unlink()
    with pytest.raises(BackendNotAvailableError, match=r"pip install onednn-cpu-gomp==2021"):
        environment.place_onednn(tmp_path)


def test_missing_tools_are_named(monkeypatch):
    monkeypatch.delenv("cc_path", raising=False)
    monkeypatch.setattr(environment.shutil, "which", lambda name: None)
    with pytest.raises(BackendNotAvailableError, match=r"g\+\+"):
        environment.prepare()
    monkeypatch.undo()
    monkeypatch.setattr(environment.sysconfig, "get_path", lambda name: "/nowhere")
    with pytest.raises(BackendNotAvailableError, match=r"/nowhere/Python\.h"):
        environment.prepare()
    monkeypatch.setattr(environment.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BackendNotAvailableError, match="pip install"):
        environment.prepare()


class TestMessages:
    """What a user reads while Jittor compiles, or when it cannot."""

    @pytest.fixture(autouse=True)
    def cache(self, monkeypatch, tmp_path) -> Path:
        folder = tmp_path / "default"
        folder.mkdir()
        utilities = SimpleNamespace(cache_path=str(folder))
        monkeypatch.setitem(sys.modules, "jittor_utils", utilities)
        return folder

    def test_first_compilation_is_announced(self, cache, capsys):
        with environment._announced():
            pass
        assert "some minutes" in capsys.readouterr().err
        (cache / "jittor_core.cpython.so").touch()
        with environment._announced():
            pass
        assert capsys.readouterr().err == ""

    def test_a_held_lock_is_named_and_a_stale_one_is_not(self, cache, capsys, monkeypatch):
        (cache / "jittor_core.cpython.so").touch()
        lock = cache.parent / "jittor.lock"
        clock = iter(range(0, 100, 3))
        monkeypatch.setattr(environment.time, "monotonic", lambda: next(clock))
        with environment.locked(lock), environment._announced():
            pass
        assert str(lock) in capsys.readouterr().err
        # The file of a process that died is left behind, its lock is not.
        with environment._announced():
            pass
        assert capsys.readouterr().err == ""

    def test_a_damaged_cache_is_named(self, cache, monkeypatch):
        message = self.refusal(monkeypatch, ImportError("file too short\nlong trace"))
        assert "ImportError: file too short." in message and f"delete {cache}" in message
        assert "\n" not in message

    def test_a_rebuilt_helper_asks_for_another_run(self, cache, monkeypatch):
        # Jittor itself leaves with status 0 then, as if all had gone well.
        assert "Run the same command again" in self.refusal(monkeypatch, SystemExit(0))

    @staticmethod
    def refusal(monkeypatch, error: BaseException) -> str:
        def fail(name):
            raise error

        monkeypatch.setattr(environment.importlib, "import_module", fail)
        loaded = {name: module for name, module in sys.modules.items() if "jittor" in name}
        try:
            with pytest.raises(BackendNotAvailableError) as caught:
                environment._import_jittor()
        finally:
            sys.modules.update(loaded)
        return str(caught.value)
