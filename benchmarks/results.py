"""Runs every benchmark and writes what they print to ``benchmarks/RESULTS.md``.

    python benchmarks/results.py [--only NAME ...]

A benchmark that fails ends the run, and the earlier page stays. Leave the machine alone meanwhile.
"""

from __future__ import annotations

import argparse
import glob
import importlib.metadata
import importlib.util
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
PAGE = FOLDER / "RESULTS.md"
SECTION = re.compile(r"^## (\w+)\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)


def scripts() -> list[str]:
    """Names of all benchmarks."""
    found = sorted(FOLDER.glob("*.py"))
    return [
        path.stem
        for path in found
        if '__name__ == "__main__"' in path.read_text(encoding="utf-8")
        and path.stem != Path(__file__).stem
    ]


def runnable(name: str) -> bool:
    """Whether this machine has what the benchmark needs: sample data, or a GPU and a peer."""
    if name == "loader":
        return bool(os.environ.get("UNIDET_TEST_DATA"))
    if name != "gpu":
        return True
    peer = importlib.util.find_spec("torchvision") is not None
    return peer and bool(glob.glob("/dev/nvidia[0-9]*"))


def machine() -> str:
    """One line on hardware and versions."""
    processor = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = re.findall(r"^model name\s*:\s*(.+)$", info.read_text(), re.MULTILINE)
        processor = names[0] if names else processor
    versions = ", ".join(
        f"{name} {importlib.metadata.version(name)}" for name in ("torch", "jittor", "numpy")
    )
    return f"{processor}, {os.cpu_count()} cores; Python {platform.python_version()}, {versions}."


def run(name: str) -> str:
    """What a benchmark prints, shown while it runs."""
    print(f"== {name}", flush=True)
    command = [sys.executable, str(FOLDER / f"{name}.py")]
    lines = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line)
    if process.returncode:
        sys.exit(f"benchmark {name} ended with status {process.returncode}")
    return "".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=scripts(), help="leave the others as they are")
    chosen = parser.parse_args().only or [name for name in scripts() if runnable(name)]
    before = dict(SECTION.findall(PAGE.read_text(encoding="utf-8"))) if PAGE.is_file() else {}
    sections = {}
    for name in scripts():
        if name in chosen:
            sections[name] = f"\n```text\n{run(name).strip()}\n```\n\nMeasured on {machine()}\n\n"
        elif name in before:
            sections[name] = before[name]
    text = (
        "# Measurements\n\nWritten by `make bench`; each script says what it measures and how.\n\n"
    )
    text += "".join(f"## {name}\n{body}" for name, body in sections.items())
    PAGE.write_text(text.rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
