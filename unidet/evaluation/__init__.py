"""Scores of detections against ground truth."""

from __future__ import annotations

from unidet.evaluation.coco import METRIC_NAMES, CocoScores, evaluate_coco, read_truth
from unidet.evaluation.lvis import evaluate_lvis
from unidet.evaluation.proposals import evaluate_proposals, score_boxes
from unidet.evaluation.results import (
    ResultsReport,
    check_results,
    read_results,
    write_results,
)
from unidet.evaluation.run import EvaluationResult, evaluate_model

__all__ = [
    "METRIC_NAMES",
    "CocoScores",
    "EvaluationResult",
    "ResultsReport",
    "check_results",
    "evaluate_coco",
    "evaluate_lvis",
    "evaluate_model",
    "evaluate_proposals",
    "read_results",
    "read_truth",
    "score_boxes",
    "write_results",
]
