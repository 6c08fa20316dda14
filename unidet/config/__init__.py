"""Configs: typed, checked, readable, and written back in full.

A config says everything that a run depends on. It is read from YAML, from a shipped file by its
bare name, or made in code from the frozen dataclasses of :mod:`unidet.config.schema`.
"""

from unidet.config.build import ConfigError, keys, to_mapping
from unidet.config.files import (
    dump_config,
    from_mapping,
    load_config,
    read_text,
    reference,
    resolve,
    shipped,
)
from unidet.config.schema import (
    AugmentationConfig,
    Config,
    DataConfig,
    EvaluationConfig,
    GroupConfig,
    ModelConfig,
    OptimizerConfig,
    ScenesConfig,
    ScheduleConfig,
    SourceConfig,
    TrainConfig,
)

__all__ = [
    "AugmentationConfig",
    "Config",
    "ConfigError",
    "DataConfig",
    "EvaluationConfig",
    "GroupConfig",
    "ModelConfig",
    "OptimizerConfig",
    "ScenesConfig",
    "ScheduleConfig",
    "SourceConfig",
    "TrainConfig",
    "dump_config",
    "from_mapping",
    "keys",
    "load_config",
    "read_text",
    "reference",
    "resolve",
    "shipped",
    "to_mapping",
]
