"""The command line: exit statuses, one-line errors with suggestions, help without a framework."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import unidet
from unidet.cli import main as cli
from unidet.errors import RunFailedError, UserError


def run(words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of one command."""
    try:
        status = cli.main(words)
    except SystemExit as leaving:  # argparse leaves by itself after --help and --version
        status = int(leaving.code or 0)
    shown = capsys.readouterr()
    return status, shown.out, shown.err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["tran"], ["Unknown command 'tran'", "Did you mean 'train'"]),
        (["docter"], ["Did you mean 'doctor'"]),
        (["train", "--rezume"], ["Unknown option '--rezume'", "Did you mean '--resume'"]),
        (["train", "--bakend=torch"], ["Unknown option '--bakend'", "Did you mean '--backend'"]),
        (["train", "--backend", "troch"], ["'troch'", "Did you mean 'torch'"]),
        (["train", "--device", "gpu"], ["--device", "'gpu'", "cuda"]),
        (["train", "--seed", "x"], ["--seed", "'x'"]),
        (["train", "quikstart"], ["'quikstart'", "Did you mean 'quickstart'"]),
        (["train", "quickstart", "extra"], ["'extra'"]),
        (["train", "--set", "train.epoch=3"], ["`train.epoch`", "Did you mean 'epochs'"]),
        (["train", "--set", "train.epochs=many"], ["`train.epochs`", "an integer", "'many'"]),
        (["train", "--set", "schedul.kind=step"], ["Did you mean 'schedule'"]),
        (["train", "--resume", "--overwrite"], ["--resume or --overwrite"]),
        (["train", "--resume", "nowhere"], ["--resume", "config.yaml"]),
        (["train", "nowhere.yaml"], ["nowhere.yaml"]),
        (["data", "chekc"], ["Did you mean 'check'"]),
        (["lr-find", "--step", "5"], ["Did you mean '--steps'"]),
        (["--verbose"], ["Unknown option '--verbose'"]),
    ],
    ids=lambda value: " ".join(value)[:40],
)
def test_bad_input_is_one_line_and_exit_2(
    words: list[str], expected: list[str], capsys: pytest.CaptureFixture[str],
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    status, out, err = run(words, capsys)
    assert status == 2
    assert out == ""
    assert err.startswith("unidet: error: ")
    assert err.count("\n") == 1
    for text in expected:
        assert text in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (UserError("Invalid value for `x`.\nExpected 1."), 2, "Invalid value for `x`. Expected 1."),
        (ValueError("Invalid value for `x`."), 2, "unidet: error: Invalid value"),
        (RunFailedError("The disk is full."), 1, "unidet: error: The disk is full."),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_exit_status_of_each_kind_of_error(
    error: BaseException, status: int, text: str,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def fail(args: object) -> int:
        raise error

    monkeypatch.setattr("unidet.cli.train.run", fail)
    got, out, err = run(["train"], capsys)
    assert (got, out) == (status, "")
    assert text in err and err.count("\n") == 1


@pytest.mark.parametrize("error", [ValueError("shapes differ"), KeyError("a"), TypeError("no")])
def test_defects_keep_their_traceback(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(args: object) -> int:
        raise error

    monkeypatch.setattr("unidet.cli.train.run", fail)
    with pytest.raises(type(error)):
        cli.main(["train"])


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"], capsys) == (0, f"unidet {unidet.__version__}\n", "")
    status, out, _ = run(["--help"], capsys)
    assert status == 0 and "examples:" in out
    for name in cli.COMMANDS:
        assert name in out
    assert run([], capsys)[1] == out


@pytest.mark.parametrize("name", list(cli.COMMANDS))
def test_every_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run([name, "--help"], capsys)
    assert (status, err) == (0, "")
    assert f"unidet {name}" in out


def test_help_imports_no_framework() -> None:
    script = (
        "import sys\n"
        "from unidet.cli.main import main\n"
        "try: main(['train', '--help'])\n"
        "except SystemExit: pass\n"
        "main(['train', '--keys']); main(['train', 'quickstart', '--print-config'])\n"
        "bad = {'torch', 'jittor', 'cv2', 'matplotlib', 'rich.progress'} & set(sys.modules)\n"
        "sys.exit(f'imported: {bad}' if bad else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_print_config_is_a_config(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ["train", "quickstart", "--set", "train.epochs=2", "--print-config"]
    status, out, _ = run(words, capsys)
    assert status == 0
    path = tmp_path / "again.yaml"
    path.write_text(out)
    assert run(["train", str(path), "--print-config"], capsys)[1] == out
    assert "epochs: 2" in out


def test_module_form() -> None:
    words = [sys.executable, "-m", "unidet", "--version"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout == f"unidet {unidet.__version__}\n"
