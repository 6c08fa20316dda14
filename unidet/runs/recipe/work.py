"""What the steps of UniDetector's recipe do, each from the files of those before it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from unidet.config import Config, ConfigError
from unidet.data.convert import write_json
from unidet.files.reading import read_json
from unidet.runs.recipe.config import Recipe, SetConfig
from unidet.runs.recipe.report import box_scores, class_scores, report_tables
from unidet.runs.steps import resumable

Progress = Callable[[int], AbstractContextManager[Callable[[int], None]]]


class Work:
    """The files of a work dir and what makes them.

    Attributes:
        recipe, root, backend, device: as given.
        data: where relative paths of the recipe start.
        boxes: proposals of each training set.
        test_boxes: those of the test set.
        configs: of the two stages, filled in by the recipe.

    Args:
        recipe: what is learnt and measured.
        root: the work dir.
        backend: "torch" or "jittor".
        device: "cpu" or "cuda".
        progress: makes a context for a number of images, which is told how many are done.
    """

    def __init__(
        self,
        recipe: Recipe,
        root: Path,
        *,
        backend: str,
        device: str,
        progress: Progress | None = None,
    ) -> None:
        self.recipe, self.root = recipe, root
        self.backend, self.device = backend, device
        self.data = Path(recipe.root) if recipe.root else root / "data"
        self.boxes = [root / "proposals" / f"train_{i}.npz" for i in range(len(recipe.train))]
        self.test_boxes = root / "proposals" / "test.npz"
        self.configs: dict[str, Config] = {}
        self.progress: Progress = progress or (lambda total: nullcontext(lambda done: None))

    def scene_files(self, name: str) -> tuple[Path, Path, Path]:
        """The folder of generated scenes, their vectors and their frequencies."""
        return (
            self.data / name,
            self.data / f"{name}.npy",
            self.data / f"{name}_cat_info.json",
        )

    def make_scenes(self) -> None:
        """Generates the scenes of the recipe, with the vectors and frequencies of their names.

        Raises:
            UserError: a folder holds something else.
        """
        from unidet.data.coco import load_coco
        from unidet.data.frequencies import count_frequencies
        from unidet.data.scene_vectors import write_vectors
        from unidet.data.scenes import SCENE_CLASSES, generate_scenes

        for chosen in self.recipe.scenes:
            folder, vectors, frequencies = self.scene_files(chosen.name)
            path = generate_scenes(
                folder,
                chosen.count,
                size=(chosen.height, chosen.width),
                seed=chosen.seed,
                classes=chosen.shapes or SCENE_CLASSES,
                max_objects=chosen.max_objects,
                start=chosen.start,
                colours=chosen.colours,
                without=chosen.without,
                overwrite=folder.exists(),
            )
            dataset = load_coco(path, folder / "images")
            write_json(count_frequencies(dataset), frequencies, overwrite=True)
            write_vectors(dataset.class_names, vectors, dim=chosen.dim, overwrite=True)

    def checkpoint(self, name: str) -> Path:
        """The weights that a stage ends with: their moving average where there is one."""
        averaged = self.configs[name].train.ema_decay is not None
        return self.root / name / ("last_ema.safetensors" if averaged else "last.safetensors")

    def train(self, name: str, resume: bool) -> None:
        """Trains a stage.

        Args:
            name: "stage1" or "stage2".
            resume: go on from the last saved state, if there is one.
        """
        from unidet.engine import train

        going_on = resume and resumable(self.root / name)
        train(
            self.configs[name],
            backend=self.backend,
            device=self.device,
            work_dir=self.root / name,
            resume=going_on,
            overwrite=not going_on,
        )

    def _dataset(self, chosen: SetConfig, **more: Any) -> Any:
        from unidet.data.sources import load_dataset

        dataset = load_dataset(
            {
                "format": chosen.format,
                "annotations": self.data / chosen.annotations,
                "images": self.data / chosen.images if chosen.images else None,
                **more,
            }
        )
        dataset.check_files()
        return dataset

    def propose(self) -> None:
        """Writes the boxes of the first stage in every training set."""
        for chosen, path in zip(self.recipe.train, self.boxes):
            self._write_boxes(chosen, path)

    def propose_test(self) -> None:
        """Writes the boxes of the first stage in the test set."""
        self._write_boxes(self.recipe.test, self.test_boxes)

    def _write_boxes(self, chosen: SetConfig, path: Path) -> None:
        from unidet.data import Loader
        from unidet.data.proposals import write_proposals
        from unidet.detector import Detector
        from unidet.evaluation.propose import choose_stage, propose

        options = self.recipe.proposals
        dataset = self._dataset(chosen)
        detector = Detector(self.checkpoint("stage1"), self.backend, self.device)
        with self.progress(len(dataset)) as progress:
            found = propose(
                detector.model,
                Loader(dataset, detector.preprocess, options.batch_size),
                stage=choose_stage(detector.model),
                score_threshold=options.score_threshold,
                progress=progress,
            )
        write_proposals(path, found, overwrite=True)

    def scored(self, name: str) -> tuple[Path, Path]:
        """Files of results in COCO form and of their metrics."""
        return self.root / f"{name}.json", self.root / f"{name}_metrics.json"

    def score_raw(self) -> None:
        """Writes results without the class prior, and the prior: how many there are of each class.

        As in the official code, every detection counts, whatever its score.
        """
        results, dataset = self.score("raw")
        counts = Counter(result["category_id"] for result in results)
        prior = [counts[number] for number in dataset.category_ids]
        write_json(
            {"class_names": list(dataset.class_names), "detections": prior},
            self.root / "prior.json",
            overwrite=True,
        )

    def score(self, name: str) -> tuple[list[dict[str, Any]], Any]:
        """Writes results and metrics of the second stage in the test set.

        Args:
            name: "raw", or "calibrated" with the class prior.

        Returns:
            The results, and the data set.

        Raises:
            UserError: embeddings that do not fit the test set or the model.
        """
        from unidet.data import Loader
        from unidet.detector import Detector
        from unidet.evaluation import evaluate_model, write_results
        from unidet.evaluation.run import default_limit
        from unidet.text.stored import read_embeddings

        scoring, test = self.recipe.scoring, self.recipe.test
        dataset = self._dataset(test, proposals=self.test_boxes)
        vectors = read_embeddings(self.data / test.embeddings, dataset.class_names)
        model = Detector(self.checkpoint("stage2"), self.backend, self.device).model
        limit = scoring.max_detections or default_limit(dataset.metric, class_agnostic=False)
        changes: dict[str, Any] = {
            "beta": scoring.beta,
            "max_proposals_test": scoring.max_proposals,
            "max_detections": limit,
        }
        if name == "calibrated":
            prior = read_json(self.root / "prior.json")["detections"]
            changes |= {"gamma": scoring.gamma, "class_prior": tuple(prior)}
        try:
            model.set_vocabulary(dataset.class_names, vectors)
        except ValueError as error:
            raise ConfigError(f"Invalid value for `test.embeddings`. {error}") from None
        model.set_scoring(**changes)
        with self.progress(len(dataset)) as progress:
            result = evaluate_model(
                model,
                Loader(dataset, model.preprocess, scoring.batch_size),
                dataset,
                max_detections=limit,
                progress=progress,
            )
        results, metrics = self.scored(name)
        write_results(results, result.results)
        told = {"metrics": result.metrics, "per_class": result.per_class}
        write_json(told, metrics, overwrite=True)
        return result.results, dataset

    def report(self) -> None:
        """Writes the tables."""
        from unidet.data.proposals import read_proposals
        from unidet.files.atomic import atomic_path

        seen = {
            dataset.class_names[label]
            for dataset in map(self._dataset, self.recipe.train)
            for entry in dataset.annotations
            for label in set(entry.labels.tolist())
        }
        dataset = self._dataset(self.recipe.test)
        boxes = read_proposals(self.test_boxes, dataset)
        found = {record.id: rows for record, rows in zip(dataset.images, boxes)}
        report = {
            "backend": self.backend,
            "stage1": self.configs["stage1"].model.name,
            "stage2": self.configs["stage2"].model.name,
            "classes": {
                "all": dataset.num_classes,
                "seen": sum(n in seen for n in dataset.class_names),
            },
            "proposals": box_scores(dataset, found, seen, self.recipe.scoring.recall),
            "results": {
                name: class_scores(read_json(self.scored(name)[1]), seen)
                for name in ("raw", "calibrated")
            },
        }
        write_json(report, self.root / "report.json", overwrite=True)
        with atomic_path(self.root / "report.txt", overwrite=True) as temporary:
            temporary.write_text(report_tables([report]) + "\n", encoding="utf-8")
