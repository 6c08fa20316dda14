"""Scores of UniDetector's networks in an ONNX graph, as the models' own ``scores``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from unidet.export.boxes import sigmoid
from unidet.export.graph import Graph, Value
from unidet.models.unidetector.calibration import prior_weights


def cln_scores(model: Any, graph: Graph, outputs: Sequence[Value], quality: Value | None) -> Value:
    """``(R, 1)``: the class probability weighed against centerness and IoU."""
    alpha = model.settings.alpha
    known = graph.op("Softmax", outputs[0], axis=1).part(0, 1, axis=1)
    framed = sigmoid(outputs[2])
    if quality is not None:
        framed = framed * quality.reshape(-1, 1)
    return known**alpha * framed ** (1 - alpha)


def text_scores(model: Any, graph: Graph, outputs: Sequence[Value], quality: Value | None) -> Value:
    """``(R, C + 1)``: calibrated probabilities of the vocabulary in use."""
    c = model.settings
    scores = sigmoid(outputs[0])
    if c.gamma is not None and c.class_prior is not None:
        weights = np.append(prior_weights(np.asarray(c.class_prior), c.gamma), np.float32(1))
        scores = scores * weights
    if c.beta is not None and quality is not None:
        scores = scores**c.beta * quality.maximum(0.0).reshape(-1, 1) ** (1 - c.beta)
    return scores
