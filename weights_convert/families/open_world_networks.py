"""What CLIP's and UniDetector's families demand, and which native models they fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .architecture import Shape
from .native import native_shapes
from .networks import Expected, Shapes
from .open_world_shapes import clip_depth, vocabulary_sizes

#: Classes of a detector whose file has no vocabulary, until one is set.
NO_VOCABULARY = 80


@dataclass(frozen=True)
class CLIPNetwork:
    """A whole CLIP with a ResNet."""

    @property
    def models(self) -> str:
        """Pattern of the native models' names."""
        return r"clip_rn(50|101)"

    def expect(self, shapes: Shapes, *, counters: bool) -> Expected:
        """What a state like ``shapes`` should hold."""
        from unidet.models import model_spec

        name = f"clip_rn{clip_depth(shapes, 'visual.')}"
        return Expected(native_shapes(name, {}, counters=counters), name, model_spec(name).defaults)


@dataclass(frozen=True)
class CLIPVisualNetwork:
    """The visual tower of CLIP's RN50 by itself."""

    @property
    def models(self) -> str:
        """Pattern of the native models' names."""
        return "clip_rn50_visual"

    def expect(self, shapes: Shapes, *, counters: bool) -> Expected:
        """What a state like ``shapes`` should hold."""
        return Expected(native_shapes(self.models, {}, counters=counters), self.models, {})


@dataclass(frozen=True)
class CLIPDetectorNetwork:
    """UniDetector on CLIP's ResNet-50.

    Attributes:
        rpn: It proposes regions itself: the end-to-end detector, not the second stage.
        partitioned: It has a vocabulary for each data set.
    """

    rpn: bool
    partitioned: bool = False

    @property
    def models(self) -> str:
        """Pattern of the native models' names."""
        return f"unidetector_{'e2e' if self.rpn else 'stage2'}_r50_c4"

    def expect(self, shapes: Shapes, *, counters: bool) -> Expected:
        """What a state like ``shapes`` should hold; a file may lack its vocabulary.

        Raises:
            CheckpointError: vocabularies are numbered with gaps.
        """
        sizes = vocabulary_sizes(shapes) or (NO_VOCABULARY,)
        arguments: dict[str, Any] = {"num_classes": max(sizes)}
        if self.partitioned:
            arguments["vocabulary_sizes"] = sizes
        wanted = native_shapes(self.models, arguments, counters=counters)
        return Expected(wanted, self.models, arguments, may_lack=_no_vocabulary(wanted))


@dataclass(frozen=True)
class CLNNetwork:
    """The class-agnostic first stage."""

    @property
    def models(self) -> str:
        """Pattern of the native models' names."""
        return "unidetector_cln_r50_fpn"

    def expect(self, shapes: Shapes, *, counters: bool) -> Expected:
        """What a state like ``shapes`` should hold."""
        return Expected(native_shapes(self.models, {}, counters=counters), self.models, {})


def _no_vocabulary(wanted: Mapping[str, Shape]) -> dict[str, np.ndarray]:
    return {
        name: np.zeros(shape, np.float32)
        for name, shape in wanted.items()
        if name == "head.text_embeddings"
    }
