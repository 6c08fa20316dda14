"""Every package that the code imports is a declared dependency."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pytest brings it

ROOT = Path(__file__).resolve().parents[2]

#: Distribution that provides an import name, where the two differ.
PROVIDERS = {
    "cv2": "opencv-python-headless",
    "yaml": "pyyaml",
    "PIL": "pillow",
    "absl": "absl-py",
    "jittor_utils": "jittor",
    "jittor_core": "jittor",
    "pkg_resources": "setuptools",
}
#: Used where the user has them; nothing depends on them.
OPTIONAL = {"torchvision", "supervision", "lvis"}


def declared() -> set[str]:
    """Names of all requirements of the project and its extras, in lower case."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    project = tomllib.loads(text)["project"]
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    words = [re.match(r"[A-Za-z0-9._-]+", line).group() for lines in lists for line in lines]
    return {word.lower().replace("_", "-") for word in words}


def imported() -> dict[str, str]:
    """Third-party top-level names that the packages import, with one file that does."""
    found = {}
    for folder in ("unidet", "backends", "weights_convert", "configs"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                names = []
                if isinstance(node, ast.Import):
                    names = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom) and not node.level:
                    names = [node.module or ""]
                for name in names:
                    found[name.partition(".")[0]] = str(path.relative_to(ROOT))
    own = {"unidet", *sys.stdlib_module_names}
    return {name: path for name, path in found.items() if name not in own}


def test_the_list_is_read() -> None:
    assert {"numpy", "torch", "jittor", "pytest", "safetensors"} <= declared()
    assert {"numpy", "torch", "cv2"} <= set(imported())


def test_imports_are_declared() -> None:
    known = declared() | OPTIONAL
    missing = {
        name: path
        for name, path in imported().items()
        if PROVIDERS.get(name, name).lower().replace("_", "-") not in known
    }
    assert missing == {}
