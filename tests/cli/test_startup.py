"""What a command imports before it works: counted in modules, because seconds depend on the machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from tcseg.cli import doctor

RUN = """
import sys
from tcseg.cli import app
try:
    app(sys.argv[1:])
except SystemExit as end:
    assert not end.code, end.code
print(*sys.modules, file=sys.stderr)
"""


def modules_of(*words: str) -> set[str]:
    """The modules that a command has imported when it ends."""
    done = subprocess.run([sys.executable, "-c", RUN, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stderr.splitlines()[-1].split())


def test_help_imports_little() -> None:
    modules = modules_of("--help")
    assert len(modules) < 280, "229 on 30 November 2026"
    assert not modules & {"numpy", "torch", "cv2", "pandas", "rich"}


@pytest.mark.slow
def test_segment_imports_no_study(tmp_path: Path) -> None:
    """Nearly half of its start was spent on packages that notebooks, figures and tables need."""
    cv2.imwrite(str(tmp_path / "a.png"), np.full((64, 96, 3), 90, np.uint8))
    modules = modules_of("segment", str(tmp_path / "a.png"), "--out", str(tmp_path / "b.png"))
    assert not modules & {"nbformat", "jsonschema", "papermill", "IPython", "matplotlib", "seaborn", "pandas", "accelerate"}
    assert not {name for name in modules if name.startswith(("tcseg.study", "tcseg.adaptation", "tcseg.training.loop"))}
    assert len(modules) < 3700, "3450 on 30 November 2026; 4633 before"


def test_the_doctor_starts_a_process_a_package_and_torch_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """torchvision is looked at in torch's process, whose compiler it would import."""
    codes = []

    class Process:
        returncode = 0

        def __init__(self, command: list[str], **_: object) -> None:
            codes.append(command[-1])

        def communicate(self, timeout: float) -> tuple[str, str]:
            return "GPU: none | threads: 2\n", ""

    monkeypatch.setattr(doctor.subprocess, "Popen", Process)
    lines = doctor.check_imports()
    assert [line.what for line in lines] == ["numpy", "torch", "device", "torchvision", "opencv-python", "numba"]
    assert len(codes) == 4 and sum("import torch\n" in code for code in codes) == 1
    assert not any("import torchvision" in code for code in codes)


@pytest.mark.parametrize(
    ("output", "error", "broken"),
    [
        ("GPU: none | threads: 2\n", "OSError: undefined symbol: _ZN2at4_ops", ["torchvision"]),
        ("", "ImportError: libcudart.so.13: cannot open shared object file", ["torch", "torchvision"]),
    ],
)
def test_a_broken_torch_or_torchvision_is_told_apart(
    output: str, error: str, broken: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Process:
        def __init__(self, command: list[str], **_: object) -> None:
            self.torch = "import torch\n" in command[-1]
            self.returncode = int(self.torch)

        def communicate(self, timeout: float) -> tuple[str, str]:
            return (output, error) if self.torch else ("", "")

    monkeypatch.setattr(doctor.subprocess, "Popen", Process)
    lines = doctor.check_imports()
    assert [line.what for line in lines if line.state == doctor.BAD] == broken
    fix = next(line.fix for line in lines if line.what == "torchvision")
    assert "same index" in fix
