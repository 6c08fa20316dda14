"""Rules that hold between keys."""

from __future__ import annotations

from unidet.config.build import ConfigError, invalid
from unidet.config.measured import smaller_is_better
from unidet.config.schema import Config


def check(config: Config, origin: str) -> None:
    """Refuses settings that contradict each other.

    Raises:
        ConfigError: names the key, ``origin``, what was expected and what was received.
    """
    _check_schedule(config, origin)
    _check_optimizer(config, origin)
    _check_data(config, origin)
    _check_best(config, origin)


def _check_schedule(config: Config, origin: str) -> None:
    schedule = config.schedule
    milestones = schedule.milestones
    if schedule.kind == "multistep":
        if not milestones or list(milestones) != sorted(set(milestones)):
            raise invalid(
                "schedule.milestones", origin, "rising epochs such as [8, 11]", list(milestones)
            )
    elif milestones:
        raise ConfigError(
            f"Invalid value for `schedule.kind` in {origin}. Expected multistep, because "
            f"`schedule.milestones` is set. Received {schedule.kind!r}."
        )
    if schedule.warmup_steps and schedule.warmup_ratio:
        raise ConfigError(
            f"Invalid value for `schedule.warmup_ratio` in {origin}. Expected 0, because "
            f"`schedule.warmup_steps` is set. Received {schedule.warmup_ratio}."
        )
    warm = schedule.warmup_steps or schedule.warmup_ratio
    if schedule.kind == "onecycle" and warm:
        raise ConfigError(
            f"Invalid value for `schedule.warmup_steps` or `schedule.warmup_ratio` in {origin}. "
            f"Expected 0, because onecycle has its own rise. Received {warm}."
        )


def _check_optimizer(config: Config, origin: str) -> None:
    optimizer = config.optimizer
    if optimizer.name != "sgd":
        for name in ("momentum", "dampening", "nesterov"):
            value = getattr(optimizer, name)
            if value:
                raise ConfigError(
                    f"Invalid value for `optimizer.{name}` in {origin}. Expected no value, "
                    f"because {optimizer.name} has none. Received {value}."
                )
    if optimizer.nesterov and (optimizer.momentum == 0 or optimizer.dampening != 0):
        raise ConfigError(
            f"Invalid value for `optimizer.nesterov` in {origin}. Expected momentum above 0 and "
            f"dampening 0 with it. Received momentum {optimizer.momentum:g} and dampening "
            f"{optimizer.dampening:g}."
        )
    if any(beta >= 1 for beta in optimizer.betas):
        raise invalid("optimizer.betas", origin, "two numbers below 1", list(optimizer.betas))


def _check_data(config: Config, origin: str) -> None:
    data = config.data
    if data.format == "scenes":
        return
    if not data.train:
        raise ConfigError(
            f"Missing key `data.train` in {origin}. Expected the training set, because "
            f"`data.format` is {data.format!r}."
        )
    if len(data.val) > 1:
        raise ConfigError(
            f"Invalid value for `data.val` in {origin}. Expected one data set at most. "
            f"Received {len(data.val)}."
        )
    for part in ("train", "val"):
        for index, source in enumerate(getattr(data, part)):
            if source.percent is not None and source.count is not None:
                raise ConfigError(
                    f"Invalid value for `data.{part}.{index}.count` in {origin}. Expected no "
                    f"value, because `percent` is set. Received {source.count}."
                )
            if not source.annotations:
                raise ConfigError(
                    f"Missing key `data.{part}.{index}.annotations` in {origin}. Expected a path."
                )


def _check_best(config: Config, origin: str) -> None:
    train = config.train
    right = "min" if smaller_is_better(train.best_metric) else "max"
    if train.best_mode not in ("auto", right):
        raise ConfigError(
            f"Invalid value for `train.best_mode` in {origin}. Expected auto or {right}, because "
            f"{'less' if right == 'min' else 'more'} of {train.best_metric} is better. "
            f"Received {train.best_mode!r}."
        )
    if train.load_best_at_end and config.data.format != "scenes" and not config.data.val:
        raise ConfigError(
            f"Invalid value for `train.load_best_at_end` in {origin}. Expected false, because "
            f"without `data.val` nothing tells the best weights. Received true."
        )
