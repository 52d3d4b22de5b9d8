"""Training: any decoder, under any mixture of layouts, resumable. Read `loop.py` first.

    from graphkv.train import TrainSettings, train
    train(TrainSettings("worlds.jsonl", "run", layouts="graph=2,block=1", steps=500))
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graphkv.train.loop import train
    from graphkv.train.settings import TrainSettings

__all__ = ["TrainSettings", "train"]

_HOME_OF = {"TrainSettings": "settings", "train": "loop"}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'graphkv.train' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"graphkv.train.{_HOME_OF[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
