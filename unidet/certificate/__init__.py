"""Parity certificates: proof that a model gives the same numbers on two frameworks."""

from __future__ import annotations

from unidet.certificate.certificate import (
    Certificate,
    DetectionMatch,
    GradientDifference,
    LossDifference,
    TensorDifference,
    Thresholds,
    WeightRecord,
    read_certificate,
)

__all__ = [
    "Certificate",
    "DetectionMatch",
    "GradientDifference",
    "LossDifference",
    "TensorDifference",
    "Thresholds",
    "WeightRecord",
    "read_certificate",
]
