"""Text vectors of class names: each the mean over sentences that the name is put into."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from unidet.backends import ops
from unidet.errors import UserError, suggestion
from unidet.text.names import clean_names
from unidet.text.templates import TEMPLATES, check_templates, fill
from unidet.text.tokenizer import CONTEXT, Tokenizer

#: What is brought to unit length: nothing, as UniDetector has it; the features of each sentence;
#: the mean; or both.
NORMALISATIONS = ("none", "features", "mean", "both")

#: Called with sentences done and sentences in all.
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class EmbeddingOptions:
    """How names become vectors; the defaults are those of UniDetector's published files.

    Attributes:
        templates: sentences with ``{}`` for the name.
        clean: a key of :data:`unidet.text.names.CLEANING`.
        normalise: one of ``NORMALISATIONS``.
        batch_size: sentences computed at a time; results differ by rounding alone.

    Raises:
        UserError: a value that is not possible.
    """

    templates: tuple[str, ...] = TEMPLATES["unidetector"]
    clean: str = "official"
    normalise: str = "none"
    batch_size: int = 128

    def __post_init__(self) -> None:
        check_templates(self.templates, "of the call")
        clean_names((), self.clean)
        if self.normalise not in NORMALISATIONS:
            raise UserError(
                f"Invalid value for `normalise`. Expected one of {', '.join(NORMALISATIONS)}. "
                f"Received {self.normalise!r}.{suggestion(self.normalise, NORMALISATIONS)}"
            )
        if self.batch_size < 1:
            raise UserError(
                f"Invalid value for `batch_size`. Expected 1 or more. Received {self.batch_size}."
            )


@dataclass
class Sums:
    """What is known after some batches; goes on from where it stands.

    Attributes:
        values: ``(names, embed_dim)`` float64 sums of features over sentences.
        batches: how many are in.
    """

    values: np.ndarray
    batches: int = 0


@dataclass(frozen=True)
class _Sentences:
    """All names in one template: different sentences alone, the shortest first.

    Those of one length stand in the order of their tokens, so that neighbours start alike.
    """

    tokens: np.ndarray  # (sentences, longest)
    of_name: np.ndarray  # sentence of each name

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]]) -> _Sentences:
        tokens = np.zeros((len(rows), max(map(len, rows))), np.int32)
        for slot, row in zip(tokens, rows):
            slot[: len(row)] = row
        different, of_name = np.unique(tokens, axis=0, return_inverse=True)
        order = np.argsort((different != 0).sum(axis=1), kind="stable")
        place = np.empty(len(order), np.int64)
        place[order] = np.arange(len(order))
        return cls(different[order], place[of_name.reshape(-1)])


@dataclass
class Embedder:
    """Computes the vectors of some names batch by batch.

    Args:
        model: a :class:`unidet.models.clip.model.CLIP`, of either backend.
        tokenizer: CLIP's.
        names: at least one.
        options: see :class:`EmbeddingOptions`.

    Raises:
        UserError: the tokenizer is not that of the model, no names, or a sentence is too long.
    """

    model: Any
    tokenizer: Tokenizer
    names: Sequence[str]
    options: EmbeddingOptions = field(default_factory=EmbeddingOptions)

    def __post_init__(self) -> None:
        size, context = self.model.vocab_size, self.model.context_length
        if (self.tokenizer.size, CONTEXT) != (size, context):
            raise UserError(
                f"Invalid vocabulary of tokens. Expected {size} tokens and texts of {context}, "
                f"as the model has. Received {self.tokenizer.size} and {CONTEXT}."
            )
        if not len(self.names):
            raise UserError("Invalid value for `names`. Expected at least one. Received none.")
        texts = clean_names(self.names, self.options.clean)
        self._templates = [
            _Sentences.of([self.tokenizer.marked(fill(template, text)) for text in texts])
            for template in self.options.templates
        ]
        self.total = sum(len(sentences.tokens) for sentences in self._templates)

    def start(self) -> Sums:
        """Sums over nothing."""
        return Sums(np.zeros((len(self.names), self.model.embed_dim)))

    def add_batches(self, sums: Sums) -> Iterator[int]:
        """Adds all batches that are missing; yields how many sentences are in, after each.

        Args:
            sums: of :meth:`start`, or of an earlier embedder of the same names and options.
        """
        done = 0
        for number, (sentences, start, stop) in enumerate(self._batches()):
            done += stop - start
            if number < sums.batches:
                continue
            features = self._features(sentences.tokens[start:stop])
            members = np.flatnonzero((sentences.of_name >= start) & (sentences.of_name < stop))
            sums.values[members] += features[sentences.of_name[members] - start]
            sums.batches += 1
            yield done

    def vectors(self, sums: Sums) -> np.ndarray:
        """``(names, embed_dim)`` float32, once all batches are in.

        Raises:
            UserError: a vector is not finite, as with the weights of a broken model.
        """
        means = sums.values / len(self.options.templates)
        if self.options.normalise in ("mean", "both"):
            means = _unit(means)
        wrong = np.flatnonzero(~np.isfinite(means).all(axis=1))
        if len(wrong):
            raise UserError(
                f"Cannot embed {self.names[wrong[0]]!r} and {len(wrong) - 1} more: the model's "
                "features are not finite."
            )
        return means.astype(np.float32)

    def _batches(self) -> Iterator[tuple[_Sentences, int, int]]:
        for sentences in self._templates:
            count, size = len(sentences.tokens), self.options.batch_size
            for start in range(0, count, size):
                yield sentences, start, min(start + size, count)

    def _features(self, tokens: np.ndarray) -> np.ndarray:
        padded = np.zeros((len(tokens), CONTEXT), np.int32)
        padded[:, : tokens.shape[1]] = tokens
        with ops.no_grad():
            features = ops.to_numpy(self.model.encode_text(padded)).astype(np.float64)
        return _unit(features) if self.options.normalise in ("features", "both") else features


def embed_names(
    model: Any,
    names: Sequence[str],
    *,
    tokenizer: Tokenizer | None = None,
    options: EmbeddingOptions | None = None,
    progress: Progress | None = None,
) -> np.ndarray:
    """Text vectors of names.

    Args:
        model: a :class:`unidet.models.clip.model.CLIP`, of either backend.
        names: at least one.
        tokenizer: CLIP's; made from the vocabulary file that is found by default.
        options: those of UniDetector's published files by default.
        progress: told after each batch.

    Returns:
        ``(names, embed_dim)`` float32, not normalised unless asked for.

    Raises:
        UserError: see :class:`Embedder` and :class:`unidet.text.tokenizer.Tokenizer`.
    """
    embedder = Embedder(model, tokenizer or Tokenizer(), names, options or EmbeddingOptions())
    sums = embedder.start()
    for done in embedder.add_batches(sums):
        if progress is not None:
            progress(done, embedder.total)
    return embedder.vectors(sums)


def _unit(rows: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)
