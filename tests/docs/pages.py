"""The pages of the documentation, and the links in them."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"

_FENCE = re.compile(r"^```.*?^```", re.M | re.S)
_CODE = re.compile(r"`[^`\n]*`")
_LINK = re.compile(r"(?<!\\)\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6} +(.+?) *$", re.M)


def pages() -> list[Path]:
    """All pages that people wrote, the READMEs among them."""
    return [*sorted(ROOT.glob("README*.md")), *sorted(DOCS.glob("*.md"))]


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def links(page: Path) -> list[str]:
    """The targets of all links and pictures of a page."""
    return _LINK.findall(_CODE.sub("", prose(page)))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as mkdocs makes them of English headings."""
    found = set()
    for heading in _HEADING.findall(prose(page)):
        plain = re.sub(r"[^\w\s-]", "", heading.lower())
        found.add(re.sub(r"[-\s]+", "-", plain).strip("-"))
    return found
