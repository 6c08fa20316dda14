"""`unidet doctor`: what is installed, what is missing, and how to fix it."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unidet.doctor.checks import Row

COLOURS = {"ok": "green", "warning": "yellow", "missing": "red"}


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds the command to the command line."""
    parser = commands.add_parser(
        "doctor",
        help="what is installed, what is missing, the one line that mends it",
        description="Examines the machine without importing torch or jittor. "
        "Exit status 0 when at least one backend can be used, else 1.",
    )
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Prints the findings."""
    from unidet.doctor import checks

    rows = checks.examine()
    usable = checks.usable_backends(rows)
    if arguments.json:
        print(json.dumps(checks.to_json(rows), indent=2))
    else:
        _print(rows, usable)
    return 0 if usable else 1


def _print(rows: list[Row], usable: tuple[str, ...]) -> None:
    from rich.console import Console
    from rich.text import Text

    # Lines are not wrapped: a fix is there to be copied.
    console = Console(soft_wrap=True, highlight=False)
    width = max(len(row.name) for row in rows)
    for row in rows:
        status = Text(f"{row.status:8s}", COLOURS[row.status])
        console.print(Text.assemble(status, f"{row.name:{width}s}  {row.detail}"))
        if row.fix:
            console.print(Text(f"{'':8s}{'':{width}s}  -> {row.fix}", "bold"))
    found = ", ".join(usable) if usable else "none; follow a line marked -> above"
    console.print(Text(f"\nbackends that can be used: {found}", "bold"))
