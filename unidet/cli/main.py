"""The `unidet` command: finds the sub-command, turns errors into one line and an exit status."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import re
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import NoReturn

import unidet
from unidet.backends import BackendNotAvailableError
from unidet.backends.parallel.launch import abandon, launched
from unidet.cli.reporting import complain
from unidet.errors import (
    EXIT_BAD_INPUT,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    RunFailedError,
    UserError,
    suggestion,
)
from unidet.files.shown import cut, printable
from unidet.plugins import ENVIRONMENT_VARIABLE, load_plugins

#: Sub-commands in the order in which help lists them, with their modules.
COMMANDS = {
    "train": "train",
    "eval": "eval",
    "predict": "predict",
    "proposals": "proposals",
    "recipe": "recipe",
    "sweep": "sweep",
    "convert": "convert",
    "export": "export",
    "embed": "embed",
    "parity": "parity",
    "plot": "plot",
    "compare": "compare",
    "data": "data",
    "doctor": "doctor",
    "warmup": "warmup",
    "lr-find": "lr_find",
    "demo": "demo",
}

#: How the library's own explanations begin; any other ValueError is a defect.
_EXPLAINED = ("Invalid ", "Unknown ", "Missing ", "Cannot ", "No backend ", "Arrays do not fit ")

#: Characters of the longest message; names from a file may be of any length.
_LONGEST_MESSAGE = 4000

_EPILOG = """\
examples:
  unidet train --backend torch                   train a small detector on generated scenes
  unidet train retinanet_r18_bccd --set data.root=BCCD --backend jittor
  unidet eval runs/a/best.safetensors --data ann.json --images photos --backend torch
  unidet predict runs/a/best.safetensors photo.jpg --out drawn --backend jittor
  unidet predict unidetector.safetensors photo.jpg --classes "cat, traffic cone" --clip RN50.pt
  unidet export runs/a/best.safetensors --out detector.onnx
  unidet doctor                                  what is installed and what is missing

Each command explains itself: unidet COMMAND --help.
"""


class Parser(argparse.ArgumentParser):
    """Argument parser whose errors are one line, with a suggestion for a misspelt name."""

    def error(self, message: str) -> NoReturn:
        """Raises :class:`UserError` in place of printing the usage and leaving."""
        hint = ""
        choice = re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)", message)
        if choice:
            known = [word.strip(" '\"") for word in choice.group(2).split(",")]
            hint = suggestion(choice.group(1), known)
        text = f"{message[:1].upper()}{message[1:].rstrip('.')}."
        raise UserError(f"{text}{hint} See {self.prog} --help.")


def build_parser() -> tuple[Parser, dict[str, ModuleType]]:
    """The parser of the whole command line and the module of each sub-command."""
    parser = Parser(
        prog="unidet",
        description="Object detection written once, run natively on PyTorch and on Jittor.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"unidet {unidet.__version__}")
    commands = parser.add_subparsers(
        title="commands", dest="command", metavar="COMMAND", parser_class=Parser
    )
    modules = {}
    for name, module_name in COMMANDS.items():
        path = f"unidet.cli.{module_name}"
        if importlib.util.find_spec(path) is None:
            continue
        module = importlib.import_module(path)
        module.add_parser(commands)
        modules[name] = module
    for command in commands.choices.values():
        for one in _with_children(command):
            one.add_argument(
                "--plugin",
                action="append",
                metavar="MODULE",
                help="import this module first: it registers models, data formats, ...",
            )
    return parser, modules


def _with_children(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    """The parsers of a command that do something: its own, or those of its sub-commands."""
    children = [
        child
        for action in parser._actions
        if isinstance(action, argparse._SubParsersAction)
        for child in action.choices.values()
    ]
    return children or [parser]


def _plugins(words: Sequence[str]) -> list[str]:
    """What ``--plugin`` names: read first, since plugins add to what other options may be."""
    found = []
    for index, word in enumerate(words):
        if word == "--plugin" and index + 1 < len(words):
            found.append(words[index + 1])
        elif word.startswith("--plugin="):
            found.append(word.partition("=")[2])
    return found


def _parse(parser: Parser, arguments: Sequence[str]) -> argparse.Namespace:
    """Parses, and explains a misspelt command or option."""
    commands = next(
        action for action in parser._actions if isinstance(action, argparse._SubParsersAction)
    )
    first = arguments[0] if arguments else ""
    if first and not first.startswith("-") and first not in commands.choices:
        known = list(commands.choices)
        raise UserError(
            f"Unknown command {first!r}.{suggestion(first, known)} "
            f"Expected one of {', '.join(known)}."
        )
    namespace, unknown = parser.parse_known_args(arguments)
    if unknown:
        name = next((word for word in unknown if word.startswith("-")), unknown[0])
        name = name.partition("=")[0]
        scope = commands.choices.get(namespace.command, parser)
        if not name.startswith("-"):
            raise UserError(f"Unexpected argument {name!r}. See {scope.prog} --help.")
        raise UserError(
            f"Unknown option {name!r}.{suggestion(name, _all_options(scope))} "
            f"See {scope.prog} --help."
        )
    return namespace


def _all_options(parser: argparse.ArgumentParser) -> list[str]:
    names = [name for name in parser._option_string_actions if name.startswith("--")]
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                names.extend(_all_options(child))
    return names


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return printable(cut(text, _LONGEST_MESSAGE))


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        arguments: words after ``unidet``; those of the process by default.

    Returns:
        The exit status: 0 done, 1 a run that failed, 2 bad input, 130 interrupted. Any other
        error is a defect and keeps its traceback.
    """
    if arguments is None:
        return end_process(_run(sys.argv[1:]))
    # Called from Python: what --plugin names is for this command and the processes it starts.
    before = os.environ.get(ENVIRONMENT_VARIABLE)
    try:
        return _run(list(arguments))
    finally:
        if before is None:
            os.environ.pop(ENVIRONMENT_VARIABLE, None)
        else:
            os.environ[ENVIRONMENT_VARIABLE] = before


def end_process(status: int) -> int:
    """Returns ``status``, or ends the process with it where Python would wait for ever.

    That is where a thread of the loader still waits for a file that does not come.
    """
    stall = sys.modules.get("unidet.data.stall")
    if stall is not None and stall.threads_left_behind():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    return status


def _run(words: list[str]) -> int:
    try:
        load_plugins(_plugins(words))
        parser, modules = build_parser()
        namespace = _parse(parser, words)
        if namespace.command is None:
            parser.print_help()
            return EXIT_BAD_INPUT if words else 0
        return int(modules[namespace.command].run(namespace) or 0)
    except (UserError, BackendNotAvailableError) as error:
        return _complain(error, EXIT_BAD_INPUT)
    except RunFailedError as error:
        return _complain(error, EXIT_FAILED)
    except KeyboardInterrupt:
        print("unidet: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of a pipe went away (`unidet ... | head`): nobody is left to tell.
        sys.stderr.close()
        return EXIT_FAILED
    except (ValueError, TypeError) as error:
        if not str(error).startswith(_EXPLAINED):
            raise
        return _complain(error, EXIT_BAD_INPUT)


def _complain(error: BaseException, status: int) -> int:
    complain(_one_line(error))
    if launched() is not None:
        abandon(status)
    return status
