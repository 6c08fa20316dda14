"""The direction of imports, what model code may not do, and the size of files."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.structure import rules

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {
    "backends": "unidet.backends",
    "weights_convert": "unidet.weights_convert",
    "configs": "unidet.configs",
    "unidet": "unidet",
}
#: Folders whose code runs alike on every backend and must not know which one it is.
NEUTRAL = ("unidet/models", "unidet/losses", "unidet/data", "unidet/evaluation", "unidet/text")
LONGEST_FUNCTION = 80


def files(*folders: str, suffixes: tuple[str, ...] = (".py",)) -> list[Path]:
    return sorted(
        path
        for folder in folders
        for path in (ROOT / folder).rglob("*")
        if path.suffix in suffixes and "__pycache__" not in path.parts
    )


def package_of(path: Path) -> str:
    """Name of the package that a file's relative imports start from."""
    top, *inner = path.relative_to(ROOT).parent.parts
    return ".".join([PACKAGES[top], *inner])


def violations(paths: list[Path], rule: Callable[[ast.Module, Path], Iterator[str]]) -> list[str]:
    assert paths, "the rule covers no file"
    found = []
    for path in paths:
        tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
        found += [f"{path.relative_to(ROOT)}:{problem}" for problem in rule(tree, path)]
    return found


def test_frameworks_are_imported_in_their_own_folder_alone() -> None:
    own = (ROOT / "backends/torch", ROOT / "backends/jittor")
    for name, folder in zip(("torch", "jittor"), own, strict=True):
        other = {"torch": ("jittor", "jittor_utils"), "jittor": ("torch", "torchvision")}[name]
        problems = violations(
            files(str(folder.relative_to(ROOT))),
            lambda tree, path: rules.framework_imports(tree, package_of(path)),
        )
        crossed = [p for p in problems if p.rpartition(" ")[2].partition(".")[0] in other]
        assert crossed == []
    neutral = [p for p in files(*PACKAGES) if not any(folder in p.parents for folder in own)]
    assert violations(neutral, lambda t, p: rules.framework_imports(t, package_of(p))) == []


def test_files_of_users_are_read_in_one_place() -> None:
    """A byte-order mark, a device, deep nesting or 5,000 digits: one reader knows them all."""
    own = {
        "unidet/files/reading.py": "the reader",
        "unidet/checkpoints/native.py": "a header that its checksum covers",
        "unidet/config/files.py": "configs that come with the package",
        "unidet/evaluation/run_log.py": "lines, each of which may be damaged by itself",
        "unidet/evaluation/compare.py": "text that it has written in the lines above",
        "unidet/engine/run_lock.py": "any content of a lock is taken over",
        "unidet/doctor/jittor.py": "of the system",
        "unidet/cli/reporting.py": "of the system",
        "unidet/cli/recipe.py": "a report that this command has written",
        "weights_convert/writers.py": "a header that the library has just written",
        "weights_convert/checksums.py": "a header that its checksum covers",
    }
    found = violations(files("unidet", "weights_convert"), lambda t, p: rules.raw_reads(t))
    places = {problem.partition(":")[0] for problem in found}
    assert places - own.keys() == set(), found
    assert own.keys() - places == {"unidet/files/reading.py"} - places, (
        "an exception is out of date"
    )


def test_imports_point_one_way() -> None:
    allowed = {
        "backends": ("unidet.backends",),
        "weights_convert": (
            "unidet.backends",
            "unidet.weights_convert",
            "unidet.errors",
            "unidet.files",
            # Names and shapes are read off the models, which need no framework for that.
            "unidet.models",
        ),
        "configs": ("unidet.configs",),
    }
    for folder, names in allowed.items():
        problems = violations(
            files(folder),
            lambda tree, path, names=names: rules.foreign_imports(tree, package_of(path), names),
        )
        assert problems == []


def test_neutral_code_does_not_branch_on_the_backend() -> None:
    assert violations(files(*NEUTRAL), lambda tree, path: rules.backend_branches(tree)) == []


def test_models_and_losses_write_nothing_in_place() -> None:
    declarations = ROOT / "unidet/models/arguments.py"  # has no tensors and builds classes
    covered = [path for path in files("unidet/models", "unidet/losses") if path != declarations]
    assert violations(covered, lambda tree, path: rules.writes_in_place(tree)) == []


def test_functions_and_files_are_short() -> None:
    """Most functions fit a screen and none goes on for pages; files of one subject."""
    lengths, sizes = [], []
    for path in files(*PACKAGES):
        source = path.read_text(encoding="utf-8")
        sizes.append(len(source.splitlines()))
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                lengths.append((length, f"{path.relative_to(ROOT)}:{node.name}"))
    lengths.sort()
    assert lengths[int(len(lengths) * 0.95)][0] <= 40
    assert [name for length, name in lengths if length > LONGEST_FUNCTION] == []
    assert sorted(sizes)[len(sizes) // 2] <= 150


def test_the_layout_stays_in_order() -> None:
    loose = {path.name for path in (ROOT / "unidet").glob("*.py")}
    assert len(loose - {"__init__.py", "__main__.py"}) <= 6, loose
    assert len(list((ROOT / "unidet/models").glob("*.py"))) <= 6
    for path in files(*PACKAGES):
        if path.name == "__init__.py" and path.parent != ROOT / "configs":
            assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), path


def test_links_lead_to_the_folders_of_the_root() -> None:
    for name in ("backends", "weights_convert", "configs"):
        link = ROOT / "unidet" / name
        assert link.is_symlink() and link.resolve() == (ROOT / name).resolve()


def test_models_are_not_probed() -> None:
    """What a model offers stands in models/base.py: nobody asks it by name."""
    probe = re.compile(r"(?:hasattr|getattr)\((?:self\.)?_?(?:model|network|detector\.model)\b")
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in files("unidet")
        if path != ROOT / "unidet/models/base.py"
        for line in path.read_text(encoding="utf-8").splitlines()
        if probe.search(line)
    ]
    assert len(found) <= 2, found


def test_packages_import_each_other_without_circles() -> None:
    """Imports at the top of a file make a graph of folders; it has no circle."""
    edges: dict[str, set[str]] = {}
    for path in files(*PACKAGES):
        own = folder_of(f"{package_of(path)}.{path.stem}")
        tree = ast.parse(path.read_text(encoding="utf-8"))
        top = ast.Module([n for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom)], [])
        for _, name in rules.imported_modules(top, package_of(path)):
            other = folder_of(name) if name.startswith("unidet.") else own
            if other != own:
                edges.setdefault(own, set()).add(other)
    # The package itself imports nothing that comes back, and its names are loaded on demand.
    edges.pop("unidet", None)
    assert circle(edges) == []


def folder_of(module: str) -> str:
    """The folder, below unidet, that a module belongs to; a loose module is its own."""
    parts = module.split(".")
    return ".".join(parts[:3] if parts[1:2] == ["models"] and len(parts) > 3 else parts[:2])


def circle(edges: dict[str, set[str]]) -> list[str]:
    """Nodes of one circle of a directed graph; empty where there is none."""
    state: dict[str, int] = {}

    def visit(node: str, path: list[str]) -> list[str]:
        state[node] = 1
        for other in sorted(edges.get(node, ())):
            if state.get(other) == 1:
                return [*path[path.index(other) :], other]
            if other not in state and (found := visit(other, [*path, other])):
                return found
        state[node] = 2
        return []

    for node in sorted(edges):
        if node not in state and (found := visit(node, [node])):
            return found
    return []


def test_a_circle_would_be_seen() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}}) == ["a", "b", "c", "a"]
    assert circle({"a": {"b", "c"}, "b": {"c"}}) == []


@pytest.mark.parametrize(
    "line",
    [
        "import torch",
        "import torch.nn as nn",
        "from torch.nn import functional",
        "def f():\n    import jittor as jt",
        "import importlib\nimportlib.import_module('jittor')",
        "__import__('torchvision')",
    ],
)
def test_framework_imports_are_caught(line: str) -> None:
    assert list(rules.framework_imports(ast.parse(line), "unidet.models"))


@pytest.mark.parametrize("line", ["import numpy", "from unidet import nn", "import torchy"])
def test_other_imports_pass(line: str) -> None:
    assert not list(rules.framework_imports(ast.parse(line), "unidet.models"))


@pytest.mark.parametrize(
    "line",
    [
        "import unidet",
        "from unidet import errors",
        "from unidet.structures import Batch",
        "from .. import structures",
        "from ..structures import Batch",
        "import unidet.backends_of_another_kind",
    ],
)
def test_imports_against_the_direction_are_caught(line: str) -> None:
    allowed = ("unidet.backends",)
    assert list(rules.foreign_imports(ast.parse(line), "unidet.backends", allowed))
    fine = "from . import ops\nfrom .torch import nn\nfrom unidet.backends import ops\nimport numpy"
    assert not list(rules.foreign_imports(ast.parse(fine), "unidet.backends", allowed))


@pytest.mark.parametrize(
    "line",
    [
        "if backend == 'torch':\n    pass",
        "x = 1 if name in ('jittor', 'other') else 2",
        "while registry.resolve() != 'jittor':\n    pass",
        "match backend:\n    case 'torch':\n        pass",
        "f = {'torch': a, 'jittor': b}[backend]",
        "if ops.backend_of(x):\n    pass",
    ],
)
def test_branches_on_the_backend_are_caught(line: str) -> None:
    assert list(rules.backend_branches(ast.parse(line)))


def test_other_comparisons_pass() -> None:
    fine = "if mode == 'nearest' or backend is None:\n    pass\nf = {'relu': 1}[name]"
    assert not list(rules.backend_branches(ast.parse(fine)))


@pytest.mark.parametrize(
    "body",
    [
        "x[0] = 1",
        "x[:, 1:] += y",
        "x += y",
        "self.weight[0] = 0",
        "total = ops.zeros(())\n    total += y",
        "a, x[0] = 1, 2",
        "x = np.zeros(3)\n    x = ops.asarray(x)\n    x[0] = 1",
        "x.add_(y)",
        "ops.add(x, y, out=x)",
        "del x[0]",
    ],
)
def test_in_place_writes_are_caught(body: str) -> None:
    source = f"def f(self, x, y):\n    {body}\n"
    assert list(rules.writes_in_place(ast.parse(source)))


@pytest.mark.parametrize(
    "body",
    [
        "n = np.zeros(3)\n    n[0] = 1",
        "n = np.full(3, -1).astype(np.int64)\n    n[x > 2] += 1",
        "losses = {}\n    losses['box'] = x",
        "count = 0\n    count += len(y)",
        "self.cache[1] = x",
        "i, n = 0, np.ones(2)\n    n[i] = 2",
        "x = x + y",
        "host[0] = 1",
        "found: dict[str, object] = make()\n    found['a'] = x",
        "self.weight = x",
    ],
)
def test_host_values_may_be_written(body: str) -> None:
    source = (
        "class C:\n  def __init__(self):\n    self.cache = {}\n"
        f"  def f(self, x, y, host: np.ndarray):\n    {body}\n"
    )
    assert not list(rules.writes_in_place(ast.parse(source)))
