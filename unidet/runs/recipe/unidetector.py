"""UniDetector's recipe as steps: two runs, the boxes between them, two ways to score."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from unidet.config import Config, ConfigError, resolve
from unidet.runs.recipe.config import Recipe, SetConfig, StageConfig, stage_config
from unidet.runs.recipe.work import Progress, Work
from unidet.runs.steps import Step

_PATHS = ("annotations", "images", "embeddings", "frequencies")


def unidetector_steps(
    recipe: Recipe,
    root: Path,
    *,
    backend: str,
    device: str = "cpu",
    progress: Progress | None = None,
) -> list[Step]:
    """The steps of a recipe in a work dir, each after those that it needs.

    Args:
        recipe: what is learnt and measured.
        root: the work dir.
        backend: "torch" or "jittor".
        device: "cpu" or "cuda".
        progress: see :class:`unidet.runs.recipe.work.Work`.

    Raises:
        ConfigError: the config of a stage cannot be used, or data are not there. Nothing has been
            written then.
    """
    work = Work(recipe, root, backend=backend, device=device, progress=progress)
    _check_files(work)
    work.configs |= {
        "stage1": _config(work, recipe.stage1, given=False),
        "stage2": _config(work, recipe.stage2, given=True),
    }
    _check_kind(work.configs["stage2"].model.name)
    return [*_scene_steps(work), *_steps(work)]


def _scene_steps(work: Work) -> list[Step]:
    scenes = work.recipe.scenes
    if not scenes:
        return []
    return [
        Step(
            name="data",
            settings=[asdict(one) for one in scenes],
            outputs=tuple(path for one in scenes for path in work.scene_files(one.name)),
            work=_fresh(work.make_scenes),
            note=f"generate {len(scenes)} sets of scenes",
        )
    ]


def _steps(work: Work) -> list[Step]:
    recipe, root = work.recipe, work.root
    train, test = _files(work, *recipe.train), _files(work, recipe.test)
    boxes = {"backend": work.backend, **asdict(recipe.proposals)}
    scoring = asdict(recipe.scoring)
    recall = list(scoring.pop("recall"))
    scores = {"backend": work.backend, "test": asdict(recipe.test), **scoring}
    return [
        _run(work, "stage1", ("data",) if recipe.scenes else (), train),
        Step(
            name="proposals",
            needs=("stage1",),
            settings=boxes,
            files=train,
            outputs=tuple(work.boxes),
            work=_fresh(work.propose),
            note=f"boxes of {len(recipe.train)} training sets",
        ),
        Step(
            name="test_proposals",
            needs=("stage1",),
            settings=boxes,
            files=test,
            outputs=(work.test_boxes,),
            work=_fresh(work.propose_test),
            note="boxes of the test set",
        ),
        _run(work, "stage2", ("proposals",), train),
        Step(
            name="raw",
            needs=("stage2", "test_proposals"),
            settings={**scores, "gamma": None},
            files=test,
            outputs=(*work.scored("raw"), root / "prior.json"),
            work=_fresh(work.score_raw),
            note="detections in the test set, and how many there are of each class",
        ),
        Step(
            name="calibrated",
            needs=("raw",),
            settings=scores,
            files=test,
            outputs=work.scored("calibrated"),
            work=_fresh(lambda: work.score("calibrated")),
            note="detections weighed by that",
        ),
        Step(
            name="table",
            needs=("calibrated",),
            settings={"recall": recall},
            files=(*train, *test),
            outputs=(root / "report.json", root / "report.txt"),
            work=_fresh(work.report),
            note="recall and precision",
        ),
    ]


def _run(work: Work, name: str, needs: tuple[str, ...], files: tuple[Path, ...]) -> Step:
    """The step that trains a stage."""
    config = work.configs[name]
    weights = (Path(config.train.weights),) if config.train.weights else ()
    # Places may change while contents stay; those are looked at.
    settings = resolve(config)
    settings["data"] |= {"train": [asdict(chosen) for chosen in work.recipe.train]}
    settings["train"] |= {"weights": None}
    return Step(
        name=name,
        needs=needs,
        settings={"backend": work.backend, "config": settings},
        files=(*files, *weights),
        outputs=(work.checkpoint(name),),
        work=lambda resume: work.train(name, resume),
        note=f"train {config.model.name}",
    )


def _fresh(make: Callable[[], Any]) -> Callable[[bool], None]:
    """Work that starts anew each time."""

    def work(resume: bool) -> None:
        make()

    return work


def _config(work: Work, stage: StageConfig, *, given: bool) -> Config:
    """The config of a stage, with the boxes of the first where ``given``."""
    train = []
    for chosen, boxes in zip(work.recipe.train, work.boxes):
        source = {
            key: str((work.data / getattr(chosen, key)).resolve())
            for key in _PATHS
            if getattr(chosen, key)
        }
        if given:
            source["proposals"] = str(boxes.resolve())
        train.append({**source, "format": chosen.format})
    return stage_config(stage, {"root": "", "train": train})


def _check_kind(name: str) -> None:
    from unidet.models import model_spec

    spec = model_spec(name)
    given = getattr(spec.constructor, "needs_proposals", False)
    if not given or "vocabulary_sizes" not in spec.accepts:
        raise ConfigError(
            "Invalid value for `stage2.config`. Expected a run of a model that classifies given "
            f"proposals by text, such as unidetector_stage2_r50_c4. Received {name}."
        )


def _check_files(work: Work) -> None:
    """Refuses data that are not there and that no step generates."""
    sets = [(f"train.{i}", chosen) for i, chosen in enumerate(work.recipe.train)]
    made = [path for one in work.recipe.scenes for path in work.scene_files(one.name)]
    for key, chosen in (*sets, ("test", work.recipe.test)):
        for name in _PATHS:
            path = work.data / getattr(chosen, name)
            generated = any(path == one or one in path.parents for one in made)
            if getattr(chosen, name) and not path.exists() and not generated:
                raise ConfigError(
                    f"Invalid value for `{key}.{name}`. Expected an existing file or folder. "
                    f"Received {path}."
                )


def _files(work: Work, *chosen: SetConfig) -> tuple[Path, ...]:
    """What a step reads of data sets; images apart, of which there are too many to look at."""
    names = [name for name in _PATHS if name != "images"]
    return tuple(work.data / getattr(c, n) for c in chosen for n in names if getattr(c, n))
