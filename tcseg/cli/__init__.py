"""The command line, one module per kind of command. Heavy modules are imported only when a command needs them."""

from __future__ import annotations

from . import adapt, data, segment, study, tools, train
from .app import app

__all__ = ["adapt", "app", "data", "segment", "study", "tools", "train"]
