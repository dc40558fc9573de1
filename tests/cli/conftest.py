"""What the tests of several commands stand on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tcseg.models.registry import build, save_weights


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of somebody's own, untrained."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "mine.safetensors"
    save_weights(build("student", 19, False), path)
    return path
