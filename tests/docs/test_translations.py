"""Each Chinese page names the English page that it translates, as it was then.

The first line of a translation is ``<!-- sha256 of NAME: HASH -->``. After a change of the English
page: translate the change, and put the new hash there.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, ROOT, prose

_NOTE = re.compile(r"^<!-- sha256 of (\S+): ([0-9a-f]{64}|) -->\n")
#: Pages without a translation.
ENGLISH_ONLY = {"design.md", "reliability.md", "measured.md", "loss_normalisation.md"}
TRANSLATED = {
    ROOT / "README.md": ROOT / "README.zh-CN.md",
    **{
        page: page.with_suffix(".zh.md")
        for page in sorted(DOCS.glob("*.md"))
        if not page.name.endswith(".zh.md") and page.name not in ENGLISH_ONLY
    },
}


@pytest.mark.parametrize("english", TRANSLATED, ids=lambda page: page.name)
def test_translation_is_of_the_present_page(english: Path) -> None:
    chinese = TRANSLATED[english]
    new = hashlib.sha256(english.read_bytes()).hexdigest()
    line = f"<!-- sha256 of {english.name}: {new} -->"
    assert chinese.is_file(), f"{english.name} has no translation {chinese.name}"
    note = _NOTE.match(chinese.read_text(encoding="utf-8"))
    assert note and note[1] == english.name, f"the first line of {chinese.name} should be\n{line}"
    assert note[2] == new, (
        f"{english.name} has changed since {chinese.name} was translated. Translate the change, "
        f"then make the first line\n{line}"
    )


@pytest.mark.parametrize("english", TRANSLATED, ids=lambda page: page.name)
def test_translation_has_the_same_parts(english: Path) -> None:
    """As many headings of each level, rows of tables, and blocks of code."""

    def parts(page: Path) -> list[int]:
        text = page.read_text(encoding="utf-8")
        marks = ("# ", "## ", "### ", "|")
        counts = [sum(line.startswith(mark) for line in prose(page).splitlines()) for mark in marks]
        return [*counts, text.count("```")]

    assert parts(TRANSLATED[english]) == parts(english)


def test_every_chinese_page_is_a_translation() -> None:
    known = set(TRANSLATED.values())
    assert not [page.name for page in DOCS.glob("*.zh.md") if page not in known]
