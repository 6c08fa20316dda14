"""Compares each array of the second side with the recorded array, one at a time."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from unidet.certificate.certificate import Certificate, LossDifference, WeightRecord
from unidet.certificate.differences import (
    gradient_difference,
    match_detections,
    output_tolerance,
    sha256,
    tensor_difference,
)
from unidet.certificate.recording import Recording
from unidet.certificate.run import unpack_detections


class Checker:
    """A sink that fills a certificate.

    Args:
        recording: the first side.
        certificate: receives the comparisons.
    """

    def __init__(self, recording: Recording, certificate: Certificate) -> None:
        self._recording = recording
        self._certificate = certificate
        self._seen: set[tuple[str, str]] = set()
        norms = recording.meta["gradient_norms"]
        self._total_norm = math.sqrt(sum(value * value for value in norms.values()))

    def __call__(self, kind: str, name: str, array: np.ndarray) -> None:
        """Compares one array."""
        self._seen.add((kind, name))
        reference = self._recording.get(kind, name)
        result, limits = self._certificate, self._certificate.thresholds
        if reference is None:
            result.notes.append(f"{kind} {name} exists on {result.candidate} alone")
        elif kind == "layer":
            result.layers.append(tensor_difference(name, reference, array, limits.layers, True))
        elif kind == "output":
            tolerance = output_tolerance(name, reference, limits)
            result.outputs.append(tensor_difference(name, reference, array, tolerance, False))
        elif kind == "loss":
            result.losses.append(
                LossDifference(name, float(reference), float(array), limits.losses)
            )
        elif kind == "gradient":
            result.gradients.append(
                gradient_difference(name, reference, array, self._total_norm, limits)
            )
        else:
            sides = (unpack_detections(reference), unpack_detections(array))
            result.detections.append(match_detections(int(name), *sides, limits))

    def finish(self) -> None:
        """Notes what the first side had and the second did not."""
        for kind in ("layer", "output", "loss", "gradient", "detections"):
            for name in self._recording.names(kind):
                if (kind, name) not in self._seen:
                    self._certificate.notes.append(
                        f"{kind} {name} exists on {self._certificate.reference} alone"
                    )


def hash_weights(arrays: Mapping[str, np.ndarray]) -> dict[str, tuple[str, list[int], str]]:
    """Name to dtype, shape and SHA-256 of each tensor."""
    return {
        name: (str(array.dtype), list(array.shape), sha256(array)) for name, array in arrays.items()
    }


def compare_weights(
    reference: Mapping[str, tuple[str, list[int], str]],
    candidate: Mapping[str, tuple[str, list[int], str]],
) -> list[WeightRecord]:
    """One record for each tensor of either side; an absent tensor has an empty hash."""
    records = []
    for name in dict.fromkeys([*reference, *candidate]):
        dtype, shape, left = reference.get(name, ("", [], ""))
        if name in candidate:
            its_dtype, its_shape, right = candidate[name]
            dtype, shape = dtype or its_dtype, shape or its_shape
        else:
            right = ""
        records.append(WeightRecord(name, dtype, tuple(shape), left, right))
    return records
