"""Every key that a config file may hold, with its type, default and limits."""

# ruff: noqa: RUF009 (`option` makes a dataclass field)

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from unidet.config.formats import data_formats, source_formats
from unidet.config.measured import smaller_is_better
from unidet.config.options import option

OPTIMIZERS = ("sgd", "adam", "adamw")
SCHEDULES = ("constant", "step", "multistep", "cosine", "linear", "plateau", "onecycle")


@dataclass(frozen=True)
class ModelConfig:
    """Which model, with which arguments of its constructor."""

    name: str = option(doc="name of a model, a key of unidet.models.MODELS")
    arguments: dict[str, Any] = option(
        factory=dict, doc="keyword arguments of the model; num_classes comes from the data"
    )


@dataclass(frozen=True)
class SourceConfig:
    """One annotated set of images; relative paths start at ``data.root``."""

    annotations: str = option("", "annotation file, or the list of a VOC split")
    images: str = option("", "folder of the images")
    format: str = option(
        "", "form of these annotations; empty: data.format", choices=source_formats
    )
    proposals: str = option(
        "", "file of given boxes (.npz, .json, .pkl), for models named fast_rcnn_* and *_stage2_*"
    )
    embeddings: str = option(
        "", "text embeddings of the classes (.npy), for models named unidetector_*"
    )
    frequencies: str = option(
        "", "images of each class (_cat_info.json); classes in none are never drawn as negatives"
    )
    percent: float | None = option(
        None, "random share of the images, in percent", above=0, high=100
    )
    count: int | None = option(None, "random number of the images", low=1)
    subset_seed: int = option(0, "seed of that choice", low=0)


@dataclass(frozen=True)
class AugmentationConfig:
    """One random change of the training images."""

    name: str = option(doc="name of an augmentation, a key of unidet.data.AUGMENTATIONS")
    arguments: dict[str, Any] = option(factory=dict, doc="keyword arguments of the augmentation")
    epochs: int = option(0, "applied in so many epochs from the first; 0: in all", low=0)


@dataclass(frozen=True)
class ScenesConfig:
    """Size of the generated data of ``format: scenes``."""

    train_images: int = option(256, "generated training images", low=1)
    val_images: int = option(64, "generated validation images", low=1)
    height: int = option(128, "height in pixels", low=32)
    width: int = option(128, "width in pixels", low=32)
    seed: int = option(0, "seed of the generator", low=0)
    classes: tuple[str, ...] = option((), "which shapes are objects; none: all six")
    max_objects: int = option(6, "most objects in a scene", low=1)


@dataclass(frozen=True)
class DataConfig:
    """Where the images are and how they are batched."""

    format: str = option("coco", "form of the annotations", choices=data_formats)
    root: str = option("", "folder that relative paths below start from")
    train: tuple[SourceConfig, ...] = option((), "one training set, or a list of them")
    val: tuple[SourceConfig, ...] = option((), "the validation set; none switches evaluation off")
    scenes: ScenesConfig = option(factory=ScenesConfig, doc="sizes for format: scenes")
    batch_size: int = option(
        2, "images in one step of all ranks together, before accumulation", low=1
    )
    num_workers: int = option(0, "loader threads beside the main one", low=0)
    augmentations: tuple[AugmentationConfig, ...] = option((), "applied in this order")
    group_by_aspect_ratio: bool = option(False, "batches hold images of similar shape")
    drop_last: bool = option(False, "leave out the last batch when it is not full")
    cache: bool = option(False, "keep decoded images in memory")
    cache_gigabytes: float = option(
        4.0, "most memory for those, of training and of validation each", above=0
    )
    stall_seconds: float = option(
        60.0, "say which files are being read when no batch comes for so long; 0: never", low=0
    )
    stall_error_seconds: float = option(
        0.0, "stop with an error when no batch comes for so long; 0: wait on", low=0
    )
    class_names: tuple[str, ...] = option((), "use only these classes, in this order")
    skip_empty: bool = option(False, "train without images that hold no object")
    on_bad: str = option("error", "what bad entries and images do", choices=("error", "skip"))


@dataclass(frozen=True)
class GroupConfig:
    """Own settings of the parameters whose names begin with one of ``match``."""

    match: tuple[str, ...] = option(doc="prefixes of parameter names")
    lr: float | None = option(None, "learning rate of the group", low=0)
    weight_decay: float | None = option(None, "weight decay of the group", low=0)


@dataclass(frozen=True)
class OptimizerConfig:
    """The update rule; torch's on both backends."""

    name: str = option("adamw", "update rule", choices=OPTIMIZERS)
    lr: float = option(1e-4, "learning rate; the peak of a schedule that rises and falls", low=0)
    weight_decay: float = option(0.0, "weight decay", low=0)
    decay_biases: bool = option(
        True, "false: no weight decay on biases and norms, the parameters of one dimension"
    )
    momentum: float = option(0.0, "sgd only", low=0, high=1)
    dampening: float = option(0.0, "sgd only", low=0, high=1)
    nesterov: bool = option(False, "sgd only")
    betas: tuple[float, float] = option((0.9, 0.999), "adam and adamw only", low=0, high=1)
    eps: float = option(1e-8, "adam and adamw only", above=0)
    groups: tuple[GroupConfig, ...] = option((), "parameters with settings of their own")


@dataclass(frozen=True)
class ScheduleConfig:
    """How the learning rate moves; every kind scales the rates of the optimizer."""

    kind: str = option("constant", "shape of the schedule", choices=SCHEDULES)
    milestones: tuple[int, ...] = option(
        (), "multistep: epochs at which to multiply by gamma", low=1
    )
    step_size: int = option(1, "step: epochs between two multiplications by gamma", low=1)
    gamma: float = option(0.1, "step, multistep, plateau: factor of one drop", above=0)
    min_scale: float = option(0.0, "cosine, linear, plateau: smallest scale", low=0, high=1)
    warmup_steps: int = option(0, "steps of linear warm-up", low=0)
    warmup_ratio: float = option(0.0, "warm-up as a share of all steps", low=0, high=1)
    warmup_start: float = option(0.001, "scale of the first warm-up step", low=0, high=1)
    patience: int = option(3, "plateau: evaluations without progress before a drop", low=0)
    threshold: float = option(1e-4, "plateau: relative change that counts as progress", low=0)
    metric: str = option("loss", "plateau: watched value; loss is the mean over the epoch")
    mode: str = option("min", "plateau: direction of progress", choices=("min", "max"))
    rise: float = option(0.3, "onecycle: share of all steps that rise", above=0, high=1)
    start_divisor: float = option(25.0, "onecycle: peak over first rate", above=0)
    final_divisor: float = option(1e4, "onecycle: first rate over last rate", above=0)


@dataclass(frozen=True)
class TrainConfig:
    """Length of the run, numerics, checkpoints and reports."""

    epochs: int = option(12, "passes over the training set", low=1)
    max_steps: int = option(0, "stop after so many optimizer steps; 0: all epochs", low=0)
    seed: int = option(3407, "seed of weights, order, augmentation and sampling", low=0)
    weights: str | None = option(None, "checkpoint to start from")
    freeze: tuple[str, ...] = option((), "prefixes of parameters that stay as they are")
    expect_trainable: int | None = option(
        None, "refuse to start unless so many numbers of the model are trained", low=1
    )
    clip_grad_norm: float | None = option(None, "largest norm of the gradient", above=0)
    accumulate: int = option(1, "batches that make one optimizer step", low=1)
    amp: str = option(
        "off",
        "mixed precision; fp16 also scales the losses (torch only)",
        choices=("off", "bf16", "fp16"),
    )
    compile: bool = option(False, "let PyTorch compile the network (torch only)")
    sync_batch_norm: bool = option(
        False, "batch normalization takes its statistics over the images of all ranks"
    )
    ema_decay: float | None = option(
        None, "moving average of the weights, used for evaluation", low=0, high=1
    )
    eval_every: int = option(1, "epochs between evaluations; 0: only at the end", low=0)
    eval_every_steps: int = option(0, "steps between evaluations; 0: only by epochs", low=0)
    checkpoint_every: int = option(0, "steps between saves; 0: after each epoch only", low=0)
    best_metric: str = option("AP", "metric that chooses best.safetensors")
    best_mode: str = option(
        "auto",
        "whether more or less of it is better; auto: less of losses and errors",
        choices=("auto", "max", "min"),
    )
    load_best_at_end: bool = option(
        False, "end with the best weights: final.safetensors, and evaluation.json stays theirs"
    )
    log_every: int = option(20, "steps between two lines of metrics.jsonl", low=1)
    smoothing: float = option(
        0.6, "factor of the smoothed losses in TensorBoard; 0: none", low=0, high=0.999
    )
    max_loss_growth: float = option(
        100.0, "stop when the smoothed loss is so many times its lowest value", above=1
    )

    @property
    def maximise(self) -> bool:
        """Whether more of ``best_metric`` is better."""
        if self.best_mode == "auto":
            return not smaller_is_better(self.best_metric)
        return self.best_mode == "max"


@dataclass(frozen=True)
class EvaluationConfig:
    """What is measured on the validation set."""

    max_detections: int | None = option(
        None,
        "most detections kept for each image; none: 100, with LVIS's metrics 300, of boxes alone "
        "1000",
        low=1,
    )
    class_agnostic: bool = option(
        False,
        "score boxes alone, whatever their class; always so for a model whose one class is "
        '"object" on data of other classes',
    )
    batch_size: int = option(0, "images in one evaluation step; 0: as in training", low=0)
    losses: bool = option(False, "also measure the losses: val_loss, val_loss_NAME")


@dataclass(frozen=True)
class Config:
    """A whole run."""

    model: ModelConfig = option(doc="the model")
    data: DataConfig = option(factory=DataConfig, doc="the data")
    optimizer: OptimizerConfig = option(factory=OptimizerConfig, doc="the optimizer")
    schedule: ScheduleConfig = option(factory=ScheduleConfig, doc="the schedule")
    train: TrainConfig = option(factory=TrainConfig, doc="the run")
    evaluation: EvaluationConfig = option(factory=EvaluationConfig, doc="the evaluation")
