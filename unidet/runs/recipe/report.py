"""What a recipe has reached, as tables: recall of the proposals, precision of the names."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unidet.errors import UserError
from unidet.evaluation.proposals import evaluate_proposals
from unidet.files.reading import read_json
from unidet.runs.tables import aligned

#: Metrics of the results that a table shows, where the evaluation gives them.
_SHOWN = ("AP", "AP50", "AP75", "APr", "APc", "APf", "APs", "APm", "APl")


def box_scores(
    dataset: Any, proposals: Mapping[int, np.ndarray], seen: Collection[str], limits: Sequence[int]
) -> dict[str, dict[str, float]]:
    """Recall of proposals for all objects, and for those of classes learnt and not learnt.

    Args:
        dataset: the test set.
        proposals: ``(n, 5)`` of each image id.
        seen: names of classes of which the training data hold objects.
        limits: numbers of proposals.

    Returns:
        "all", "seen" and "unseen" (those that have classes) to metrics by name.
    """
    groups = {
        "all": list(dataset.category_ids),
        "seen": [i for i, n in zip(dataset.category_ids, dataset.class_names) if n in seen],
        "unseen": [i for i, n in zip(dataset.category_ids, dataset.class_names) if n not in seen],
    }
    truth = dataset.to_coco()
    return {
        name: evaluate_proposals(truth, proposals, limits=limits, category_ids=ids).metrics
        for name, ids in groups.items()
        if ids
    }


def class_scores(scored: Mapping[str, Any], seen: Collection[str]) -> dict[str, float]:
    """Metrics of results, and the mean AP and AP50 of classes learnt and not learnt.

    Args:
        scored: ``metrics`` and ``per_class`` of an evaluation.
        seen: names of classes of which the training data hold objects.
    """
    metrics: dict[str, float] = dict(scored["metrics"])
    rows = {name: row for name, row in scored["per_class"].items() if row["objects"]}
    for group, wanted in (("seen", True), ("unseen", False)):
        own = [row for name, row in rows.items() if (name in seen) == wanted]
        for key in ("AP", "AP50"):
            if own:
                metrics[f"{key} {group}"] = float(np.mean([row[key] for row in own]))
    return metrics


def read_report(folder: str | Path) -> dict[str, Any]:
    """The report of a work dir.

    Raises:
        UserError: there is none, or it is none of a recipe.
    """
    path = Path(folder) / "report.json"
    if not path.is_file():
        raise UserError(f"Report not found: {path}. Run the recipe to its last step.")
    report = read_json(path)
    if not isinstance(report, dict) or not {"backend", "proposals", "results"} <= report.keys():
        raise UserError(f"Invalid report {path}. Expected one that a recipe wrote.")
    return report


def report_tables(reports: Sequence[Mapping[str, Any]]) -> str:
    """Two tables with a row for each run: where objects are, and what they are called.

    Args:
        reports: of :func:`read_report`; values are shown in percent.
    """
    return "\n\n".join((_box_table(reports), _class_table(reports)))


def _box_table(reports: Sequence[Mapping[str, Any]]) -> str:
    groups = [g for g in ("all", "seen", "unseen") if any(g in r["proposals"] for r in reports)]
    names = [n for n in reports[0]["proposals"]["all"] if n.startswith("AR") and n[2:].isdigit()]
    head = ["proposals", "backend", *(f"{n} {g}" for g in groups for n in names)]
    rows = [
        [
            report["stage1"],
            report["backend"],
            *(_percent(report["proposals"].get(g, {}).get(n)) for g in groups for n in names),
        ]
        for report in reports
    ]
    return aligned([head, *rows])


def _class_table(reports: Sequence[Mapping[str, Any]]) -> str:
    results = [results for report in reports for results in report["results"].values()]
    names = [n for n in _SHOWN if any(n in r for r in results)]
    names += [n for n in ("AP seen", "AP50 seen", "AP unseen", "AP50 unseen")
              if any(n in r for r in results)]  # fmt: skip
    rows = [
        [kind, report["backend"], report["stage1"], *(_percent(found.get(n)) for n in names)]
        for report in reports
        for kind, found in report["results"].items()
    ]
    return aligned([["results", "backend", "proposals", *names], *rows])


def _percent(value: float | None) -> str:
    return "-" if value is None or value < 0 else f"{100 * value:.1f}"
