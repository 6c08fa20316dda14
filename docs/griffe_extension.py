"""Extension of griffe: docstrings are turned from Sphinx's markup into Markdown."""

from __future__ import annotations

import re
from typing import Any

import griffe


def plain_markdown(docstring: str) -> str:
    """A docstring with roles (``:func:`name```) and ``::`` blocks in Markdown's form."""
    text = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", docstring)
    text = re.sub(r"(?m)^\s*::\s*$\n?", "", text)
    return re.sub(r"(?m)(?<=\S)::$", ":", text)


class PlainMarkdown(griffe.Extension):
    """Runs on every object that is loaded."""

    def on_object(self, *, obj: griffe.Object, **options: Any) -> None:
        """Changes the docstring of ``obj``, if it has one."""
        if obj.docstring:
            obj.docstring.value = plain_markdown(obj.docstring.value)
