"""The training configuration.

`parse(['--recipe', 'simclr_cifar10', '--data.train', 'X.beton', '--optim.lr', '1e-3'])` reads the recipe,
then the overrides in order. `to_yaml` gives the text that is kept beside a run and that `--config` reads
back.
"""

from ffcv.ssl.config.command_line import from_yaml, parse, recipes, to_yaml
from ffcv.ssl.config.inputs import DataConfig, ViewConfig
from ffcv.ssl.config.learning import ModelConfig, OptimConfig, TrainingConfig
from ffcv.ssl.config.running import DistConfig, EvalConfig, LoggingConfig
from ffcv.ssl.config.whole import Config

__all__ = [
    "Config",
    "DataConfig",
    "DistConfig",
    "EvalConfig",
    "LoggingConfig",
    "ModelConfig",
    "OptimConfig",
    "TrainingConfig",
    "ViewConfig",
    "from_yaml",
    "parse",
    "recipes",
    "to_yaml",
]
