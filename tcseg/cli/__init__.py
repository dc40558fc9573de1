"""The command line, a module for each kind of command. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

from . import data, study, tools
from .app import app

__all__ = ["app", "data", "study", "tools"]
