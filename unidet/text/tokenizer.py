"""CLIP's tokenizer: byte-level byte-pair encoding of lower-case text (Radford et al. 2021)."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from unidet.errors import UserError
from unidet.text.vocabulary import find_vocabulary, read_merges

#: Tokens of one text, with those that mark its start and end.
CONTEXT = 77
START, END = "<|startoftext|>", "<|endoftext|>"
#: Appended to the last symbol of a word.
_CLOSE = "</w>"
#: A word: a mark, an English clitic, letters, one digit, or anything else but blanks.
_WORDS = (
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
)


class Tokenizer:
    """Texts to token ids, the same as OpenAI's.

    Attributes:
        size: number of tokens.
        start: id of the token that starts each text.
        end: id of the token that ends it, the largest of all.

    Args:
        path: the file of merges; see :func:`unidet.text.vocabulary.find_vocabulary`.

    Raises:
        UserError: no file, a damaged one, or a package that is not installed.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        merges = read_merges(find_vocabulary(path))
        letters = list(_byte_letters())
        tokens = letters + [letter + _CLOSE for letter in letters]
        tokens += ["".join(pair) for pair in merges] + [START, END]
        self.size = len(tokens)
        self._ids = {token: index for index, token in enumerate(tokens)}
        self._ranks = {pair: rank for rank, pair in enumerate(merges)}
        self._letters = dict(zip(_byte_values(), letters))
        self.start, self.end = self._ids[START], self._ids[END]
        # A text that spells a mark gets its token.
        self._known = {START: [self.start], END: [self.end]}
        self._words = _package("regex").compile(_WORDS, _package("regex").IGNORECASE)

    def encode(self, text: str) -> list[int]:
        """Ids of a text of any length, without marks of start and end."""
        ids: list[int] = []
        for word in self._words.findall(clean_text(text)):
            found = self._known.get(word)
            if found is None:
                found = self._known[word] = self._merge(word)
            ids += found
        return ids

    def __call__(self, texts: Sequence[str], *, truncate: bool = False) -> np.ndarray:
        """Ids of texts as the text tower takes them.

        Args:
            texts: any number.
            truncate: cut texts that are too long; their last token is still the end.

        Returns:
            ``(n, 77)`` int32: start, text, end, zeros.

        Raises:
            UserError: a text is too long.
        """
        rows = np.zeros((len(texts), CONTEXT), np.int32)
        for row, text in zip(rows, texts):
            ids = self.marked(text, truncate=truncate)
            row[: len(ids)] = ids
        return rows

    def marked(self, text: str, *, truncate: bool = False) -> list[int]:
        """Ids of one text between the marks of start and end, 77 at most.

        Raises:
            UserError: the text is too long and ``truncate`` is off.
        """
        ids = [self.start, *self.encode(text), self.end]
        if len(ids) > CONTEXT:
            if not truncate:
                raise UserError(
                    f"Invalid text {_short(text)}. Expected at most {CONTEXT - 2} tokens. "
                    f"Received {len(ids) - 2}."
                )
            ids = [*ids[: CONTEXT - 1], self.end]
        return ids

    def _merge(self, word: str) -> list[int]:
        """Ids of one word: again and again the pair of the lowest rank becomes one symbol."""
        symbols = [self._letters[byte] for byte in word.encode("utf-8")]
        symbols[-1] += _CLOSE
        worst = len(self._ranks)
        while len(symbols) > 1:
            pairs = list(pairwise(symbols))
            best = min(pairs, key=lambda pair: self._ranks.get(pair, worst))
            if best not in self._ranks:
                break
            symbols = list(_joined(symbols, best))
        return [self._ids[symbol] for symbol in symbols]


def clean_text(text: str) -> str:
    """Text as CLIP reads it: mended, without entities, single blanks, lower case."""
    # ftfy leaves plain ASCII as it is, unless there are entities or control characters.
    if not (text.isascii() and text.isprintable() and "&" not in text):
        text = _package("ftfy").fix_text(text)
        text = html.unescape(html.unescape(text))
    return " ".join(_package("regex").split(r"\s+", text.strip())).strip().lower()


def _joined(symbols: list[str], pair: tuple[str, str]) -> Iterator[str]:
    """The symbols with every occurrence of a pair, from the left, made one."""
    waiting = iter(range(len(symbols)))
    for index in waiting:
        if tuple(symbols[index : index + 2]) == pair:
            next(waiting)
            yield pair[0] + pair[1]
        else:
            yield symbols[index]


@lru_cache(maxsize=1)
def _byte_values() -> tuple[int, ...]:
    """All bytes in the order of their tokens: printable ones of Latin-1 first."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    return (*printable, *(byte for byte in range(256) if byte not in printable))


@lru_cache(maxsize=1)
def _byte_letters() -> tuple[str, ...]:
    """A visible letter for each of those bytes, those above Latin-1 for the unprintable."""
    values = _byte_values()
    printable = values.index(0)
    return tuple(chr(b) for b in values[:printable]) + tuple(
        chr(0x100 + i) for i in range(256 - printable)
    )


@cache
def _package(name: str) -> Any:
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(
            f"CLIP's tokenizer needs the package {name}. Install it: pip install {name}."
        ) from error


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:57]}...")
