"""Hooks of mkdocs: the API reference with one entry for each public name, and Chinese lines.

Before each build the pages ``docs/reference/*.md`` are written from the ``__all__`` of each public
module, so no name can be forgotten. Git ignores them.
"""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "reference"

#: A line break between two Chinese characters or full-width signs; blocks of code stand before it.
_BREAK = re.compile(
    r"(^```.*?^```)|(?<=[\u3000-\u9fff\uff00-\uffef])\n[ ]*(?=[\u3000-\u9fff\uff00-\uffef])",
    re.M | re.S,
)

#: The public modules, and the first sentence of their pages.
MODULES = {
    "unidet": "What most programs need. Importing `unidet` loads neither framework.",
    "unidet.backends.ops": (
        "Operations on tensors of either framework. The type of the first tensor decides which "
        "framework computes; functions that make new tensors take `like=` or `backend=`. `Tensor` "
        "stands for `torch.Tensor`, `jittor.Var` and `numpy.ndarray`."
    ),
    "unidet.backends.nn": (
        "Modules and layers, written once. An instance is a `torch.nn.Module` or a `jittor.Module`."
    ),
}


def public_names(module: str) -> list[str]:
    """The names in ``__all__`` of a module, in its order."""
    try:
        return list(importlib.import_module(module).__all__)
    except ModuleNotFoundError:
        sys.path.insert(0, str(ROOT))
        return list(importlib.import_module(module).__all__)


def page_name(module: str) -> str:
    """File name of the page of a module, such as ``ops.md``."""
    return module.rsplit(".", 1)[-1] + ".md"


def page_text(module: str) -> str:
    """The page of a module: its heading and one entry for each public name."""
    lines = [f"# {module}", "", MODULES[module], ""]
    for name in public_names(module):
        lines += [f"::: {module}.{name}", ""]
    return "\n".join(lines)


#: A model of each family, whose arguments are listed.
FAMILIES = (
    "retinanet_r50_fpn",
    "faster_rcnn_r50_fpn",
    "detr_r50",
    "unidetector_e2e_r50_c4",
    "unidetector_stage2_r50_c4",
    "unidetector_cln_r50_fpn",
    "resnet50",
    "clip_rn50",
)


def arguments_text() -> str:
    """The page of all arguments of models, read from their declarations."""
    public_names("unidet")  # makes sure that the package is found
    from unidet.models import model_spec
    from unidet.models.arguments import plain

    lines = [
        "# Arguments of models",
        "",
        "`model.arguments` in a config and the keywords of `create_model` take these. The kind "
        "says who uses an argument: *visible* (names and shapes of the tensors show it), "
        "*training*, *setting* (a user sets it at will) or *convention* (it changes the outputs of "
        "trained weights).",
        "",
    ]
    for name in FAMILIES:
        spec = model_spec(name)
        about, values = spec.constructor.config_class.about(), spec.defaults
        lines += [f"## {name}", "", "| argument | default | meaning | kind |", "|---|---|---|---|"]
        for key in spec.accepts:
            one, value = about[key], str(plain(values[key]))
            choices = f" ({', '.join(map(str, one.choices))})" if one.choices else ""
            limits = f" ({one.limits})" if one.limits else choices
            shown = f"`{value}`" if len(value) < 60 else "see the preset"
            lines.append(f"| `{key}` | {shown} | {one.meaning}{limits} | {one.kind} |")
        lines.append("")
    return "\n".join(lines)


def write_reference() -> None:
    """Writes the pages that are new or have changed."""
    FOLDER.mkdir(exist_ok=True)
    pages = {page_name(module): page_text(module) for module in MODULES}
    for name, text in {**pages, "arguments.md": arguments_text()}.items():
        path = FOLDER / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def on_config(config: Any) -> Any:
    """Before each build."""
    write_reference()
    return config


def joined_lines(text: str) -> str:
    """Markdown without line breaks within Chinese text, which would show as blanks."""
    return _BREAK.sub(lambda match: match.group(1) or "", text)


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Before each page is rendered."""
    return joined_lines(markdown) if page.file.src_uri.endswith(".zh.md") else markdown
