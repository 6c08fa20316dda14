"""Links between pages exist, every public name has a reference entry, and the site builds."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

from tests.docs.pages import DOCS, ROOT, anchors, links, pages

PUBLIC = ("unidet", "unidet.backends.ops", "unidet.backends.nn")
#: Import names of what builds the site.
BUILDERS = ("mkdocs", "material", "mkdocs_static_i18n", "mkdocs_autorefs", "mkdocstrings", "griffe")
MISSING = [name for name in BUILDERS if importlib.util.find_spec(name) is None]


@cache
def hooks() -> ModuleType:
    """``docs/hooks.py``, which is part of no package."""
    spec = importlib.util.spec_from_file_location("docs_hooks", DOCS / "hooks.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_links_lead_to_a_page(page: Path) -> None:
    generated = {f"reference/{hooks().page_name(module)}" for module in PUBLIC}
    broken = []
    for link in links(page):
        if "://" in link:
            continue
        target, _, anchor = link.partition("#")
        if target in generated:
            continue
        path = page.parent / target if target else page
        if not path.exists() or (anchor and anchor not in anchors(path)):
            broken.append(link)
    assert not broken, f"{page.name} links to what does not exist: {', '.join(broken)}"


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_lines_are_short(page: Path) -> None:
    """Rows of tables cannot be broken; everything else can."""
    lines = page.read_text(encoding="utf-8").splitlines()
    long = [
        i
        for i, line in enumerate(lines, 1)
        if len(line) > 100 and not line.startswith(("|", "<!--"))
    ]
    assert not long, f"{page.name}: lines of more than 100 characters: {long}"


@pytest.mark.parametrize("module", PUBLIC)
def test_every_public_name_has_a_reference_entry(module: str) -> None:
    entries = re.findall(r"^::: (\S+)$", hooks().page_text(module), re.M)
    names = importlib.import_module(module).__all__
    assert sorted(entries) == sorted(f"{module}.{name}" for name in names)


def test_readme_names_every_page() -> None:
    named = {link.partition("#")[0] for link in links(ROOT / "README.md")}
    wanted = {
        f"docs/{page.name}"
        for page in DOCS.glob("*.md")
        if not page.name.endswith(".zh.md") and page.name != "index.md"
    }
    assert not wanted - named, f"README.md does not link to {', '.join(sorted(wanted - named))}"


@pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)} (extra docs)")
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr, done.stderr
    for module in PUBLIC:
        for language in ("", "zh"):
            page = tmp_path / language / "reference" / hooks().page_name(module)
            html = page.with_suffix(".html").read_text(encoding="utf-8")
            for name in importlib.import_module(module).__all__:
                assert f'id="{module}.{name}"' in html, f"{module}.{name} is not on its page"
    assert not list(tmp_path.rglob("*.py"))
