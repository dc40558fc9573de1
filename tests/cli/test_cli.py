"""Every command as its user types it."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from command import run
from typer.testing import CliRunner

from tcseg import __version__
from tcseg.cli import app, segment, tools
from tcseg.data.frame_size import parse_size
from tcseg.errors import InputError
from tcseg.video.reading.decoding import read_frames

COMMANDS = (
    ["doctor"], ["data", "procity"], ["data", "check"], ["study"], ["report"], ["segment"], ["export"], ["bench"], ["adapt"],
    ["train"], ["sweep"], ["evaluate"], ["measure"], ["workbook"], ["lab"],
)  # fmt: skip


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    folder = tmp_path / "clip"
    folder.mkdir()
    for i in range(3):
        picture = np.full((64, 96, 3), 60, np.uint8)
        picture[20:40, 10 * i : 10 * i + 20] = 230
        cv2.imwrite(str(folder / f"{i}.png"), picture)
    return folder


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_shows_an_example(command: list[str]) -> None:
    assert f"Example: tcseg {' '.join(command)}" in run(*command, "--help").output


def test_help_and_version() -> None:
    output = run("--help").output
    assert all(command[0] in output for command in COMMANDS)
    assert run("--version").output == f"tcseg {__version__}\n"


def test_nothing_heavy_is_imported_before_a_command_needs_it() -> None:
    code = "import sys, tcseg.cli, tcseg.cli.doctor; print({'torch', 'cv2', 'numpy', 'numba', 'pandas'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "set()\n"


def test_sizes() -> None:
    assert parse_size("1024x512") == parse_size(" 1024X512 ") == (1024, 512)
    for wrong in ("1024", "1024,512", "axb", "-1x2"):
        with pytest.raises(ValueError, match="it must be WIDTHxHEIGHT"):
            parse_size(wrong)


def test_segment_a_folder(tmp_path: Path, clip: Path, weights: Path) -> None:
    out = tmp_path / "x.mp4"
    output = run("segment", clip, "--out", out, "--weights", weights).output
    assert "3 frames 96x64" in output and "frames/s" in output
    assert read_frames(out, 9).shape == (3, 64, 96, 3)
    assert "nothing written (no --out, --labels or --probs)" in run("segment", clip, "--weights", weights).output


def test_segment_writes_everything(tmp_path: Path, clip: Path, weights: Path) -> None:
    folders = {"--labels": tmp_path / "maps", "--probs": tmp_path / "probs"}
    more = [word for pair in folders.items() for word in pair]
    output = run("segment", clip, "--weights", weights, "--strip", "--steady", "median of three", *more).output
    assert "flicker" in output and all(str(folder) in output for folder in folders.values())
    assert [len(list(folder.glob("*.[pn][np]*"))) for folder in folders.values()] == [3, 3]
    assert (tmp_path / "maps" / "meta.json").exists()
    assert cv2.imread(str(tmp_path / "maps" / "0.png"), cv2.IMREAD_UNCHANGED).shape == (64, 96)
    evaluated = ["--predictions", tmp_path / "maps", "--frames", clip, "--layout", "folder", "--train-ids"]
    assert "3 frames" in run("evaluate", *evaluated, "--workers", 1).output


def test_compare_shows_flicker_of_both(tmp_path: Path, clip: Path) -> None:
    output = run("segment", clip, "--compare", "--strip", "--out", tmp_path / "x.gif").output
    assert "student-consistent" in output and read_frames(tmp_path / "x.gif", 9).shape[0] == 3


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["segment", "absent.mp4", "--out", "x.mp4", "--weights", "WEIGHTS"], "absent.mp4 does not exist"),
        (["segment", "CLIP", "--out", "x.webm", "--weights", "WEIGHTS"], "suffix must be one of"),
        (["segment", "CLIP", "--size", "100x50", "--weights", "WEIGHTS"], "sides must be multiples of 32"),
        (["segment", "CLIP", "--size", "big", "--weights", "WEIGHTS"], "it must be WIDTHxHEIGHT, such as 1024x512"),
        (["segment", "CLIP", "--weights", "absent.safetensors"], "absent.safetensors does not exist"),
        (["segment", "CLIP", "--model", "giant"], "shipped model is 'giant'"),
        (["segment", "CLIP", "--model", "student", "--weights", "WEIGHTS"], "not both"),
        (["segment", "CLIP", "--compare"], "--compare needs --out"),
        (["segment", "CLIP", "--compare", "--out", "x.gif", "--labels", "y"], "takes no --model"),
        (["segment", "CLIP", "--weights", "WEIGHTS", "--labels", "CLIP"], "which is there already"),
        (["segment", "CLIP", "--weights", "WEIGHTS", "--steady", "slow"], "steady is 'slow'"),
        (["export", "x.tflite", "--weights", "WEIGHTS", "--frames", "CLIP"], "suffix must be one of"),
        (["export", "x.pt2", "--weights", "WEIGHTS", "--channels-last"], "frames.permute"),
        (["bench", "--weights", "WEIGHTS", "--runtime", "ncnn", "--size", "64x32"], "runtime is 'ncnn'"),
        (["bench", "--weights", "WEIGHTS", "--weights", "WEIGHTS"], "two networks would have the name"),
        (["bench", "--all", "--size", "64x32", "--cold"], "cannot be combined with --size, --cold"),
        (["measure", "metrics", "--anyway"], "measurement metrics also runs on a busy machine: leave out --anyway"),
        (["data", "check", "absent"], "absent is not a folder"),
        (["data", "check", "CLIP"], "does not have the layout of a known data set"),
    ],
)
def test_errors_are_one_line(
    tmp_path: Path, clip: Path, weights: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    known = {"CLIP": clip, "WEIGHTS": weights}
    result = run(*(known.get(argument, argument) for argument in arguments), code=2)
    *above, line = result.stderr.strip().splitlines()
    assert text in line, result.stderr
    if above:  # of an option, as the library tells it
        option = re.match(r"Error: Invalid value for '(--[\w-]+|\w+)': ", line)
        assert option and above[0].startswith(f"Usage: root {arguments[0]}") and len(above) == 3, result.stderr
    else:
        assert line.startswith("error: ")


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (["bench", "--size", "big"], "--size"),
        (["bench", "--device", "moon", "--size", "64x32"], "--device"),
        (["export", "x.onnx", "--weights", "WEIGHTS", "--precision", "int9"], "--precision"),
        (["export", "x.onnx", "--weights", "WEIGHTS", "--scope", "all"], "--scope"),
        (["export", "x.onnx", "--weights", "WEIGHTS", "--calibrate", "y"], "--calibrate"),
        (["evaluate", "--predictions", "CLIP", "--frames", "CLIP", "--layout", "kitti"], "--layout"),
        (["study", "--dataset", "kitti"], "--dataset"),
        (["sweep", "--profile", "huge", "--list"], "--profile"),
        (["data", "procity", "--size", "1x"], "--size"),
    ],
)
def test_wrong_values_name_their_option(
    tmp_path: Path, clip: Path, weights: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], option: str
) -> None:
    monkeypatch.chdir(tmp_path)
    known = {"CLIP": clip, "WEIGHTS": weights}
    told = run(*(known.get(argument, argument) for argument in arguments), code=2).stderr
    assert f"Error: Invalid value for '{option}': " in told and "Usage: " in told


def test_an_error_of_a_library_is_one_line_too(monkeypatch: pytest.MonkeyPatch, clip: Path) -> None:
    def fail(*_: object) -> None:
        raise cv2.error("size.width > 0\n> more")

    monkeypatch.setenv("TCSEG_DEBUG", "0")
    monkeypatch.setattr(segment, "load_model", fail)
    told = run("segment", clip, code=2).stderr
    assert re.fullmatch(
        r"error: error: size.width > 0 \(tcseg/cli/segment.py:\d+ in segment\); set TCSEG_DEBUG=1 to see the traceback\n", told
    )


@pytest.mark.parametrize("kind", [ValueError, RuntimeError, OSError, KeyError])
def test_a_defect_of_ours_shows_its_class_and_its_place(monkeypatch: pytest.MonkeyPatch, clip: Path, kind) -> None:
    """numpy's broadcast error is a ValueError, and none of the user's making."""

    def fail(*_: object) -> None:
        raise kind("operands could not be broadcast together")

    monkeypatch.setattr(segment, "load_model", fail)
    told = run("segment", clip, code=2).stderr
    assert told.startswith(f"error: {kind.__name__}: ") and "tcseg/cli/segment.py:" in told
    assert "set TCSEG_DEBUG=1 to see the traceback" in told


def test_a_message_for_people_is_the_line_alone(monkeypatch: pytest.MonkeyPatch, clip: Path) -> None:
    def fail(*_: object) -> None:
        raise InputError("3x3 is no size; use 32x32")

    monkeypatch.setattr(segment, "load_model", fail)
    assert run("segment", clip, code=2).stderr == "error: 3x3 is no size; use 32x32\n"


def test_nothing_raises_python_s_own_errors_at_people():
    """A bare ValueError of ours would be shown as a defect."""
    package = Path(tools.__file__).parents[1]
    kinds = {"ValueError", "RuntimeError", "OSError", "FileNotFoundError", "PermissionError", "FileExistsError", "Exception"}
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and isinstance(node.exc.func, ast.Name):
                assert node.exc.func.id not in kinds, f"{path.name}:{node.lineno}"


def test_a_run_s_weights_are_named_by_the_run(tmp_path: Path, weights: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for suffix in (".safetensors", ".json"):
            shutil.copy(weights.with_suffix(suffix), tmp_path / name / f"weights{suffix}")
    files = [tmp_path / name / "weights.safetensors" for name in ("a", "b")]
    assert list(tools._bench_models(["student"], files)) == ["student", "a", "b"]


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["data", "check", "absent"]
    for way in (["--debug", *arguments], arguments):
        monkeypatch.setenv("TCSEG_DEBUG", "0" if "--debug" in way else "1")
        result = CliRunner().invoke(app, way)
        assert isinstance(result.exception, FileNotFoundError)


def test_ctrl_c_is_not_a_traceback(monkeypatch: pytest.MonkeyPatch, clip: Path) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(segment, "load_model", interrupt)
    assert run("segment", clip, code=130).stderr == "interrupted\n"


@pytest.mark.parametrize(
    ("number", "cause"),
    [
        (signal.SIGTERM, "SIGTERM, as kill, timeout and docker stop send it"),
        (signal.SIGHUP, "SIGHUP: the terminal or the connection was closed"),
        (None, "Ctrl-C"),
    ],
)
def test_what_stopped_a_run_before_its_first_frame_is_named(
    tmp_path: Path, clip: Path, weights: Path, monkeypatch: pytest.MonkeyPatch, number: int | None, cause: str
) -> None:
    def opened(*_: object) -> None:
        if number is None:
            raise KeyboardInterrupt
        os.kill(os.getpid(), number)
        time.sleep(1)

    monkeypatch.setattr("tcseg.video.render.OpenNetworks.runners", opened)
    out = tmp_path / "x.mp4"
    told = run("segment", clip, "--weights", weights, "--out", out, code=128 + (number or signal.SIGINT)).stderr
    assert told.splitlines()[-1] == f"interrupted by {cause}; nothing of {clip} is written"
    assert sorted(os.listdir(tmp_path)) == ["clip"]


def test_workbook_writes_the_chapters(tmp_path: Path) -> None:
    assert "8 chapters in " in run("workbook", tmp_path / "mine").stdout
    assert "perhaps with your solutions" in run("workbook", tmp_path / "mine", code=2).stderr


def test_lab_opens_a_copy_and_passes_options_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    monkeypatch.setattr("os.execv", lambda program, words: started.append(words[1:]))
    run("lab", "--chapter", "4", "--out", tmp_path / "mine", "--no-browser", "--ip=0.0.0.0")
    chapter = tmp_path / "mine" / "04_temporal_consistency.ipynb"
    assert started == [["-m", "jupyterlab", str(chapter), f"--ServerApp.root_dir={chapter.parent}", "--no-browser", "--ip=0.0.0.0"]]
    assert "<summary>Solution</summary>" in chapter.read_text()
    assert "notebook is '9'" in run("lab", "--chapter", "9", "--out", tmp_path / "other", code=2).stderr
    assert not (tmp_path / "other").exists(), "refused before any work"


@pytest.mark.slow
def test_bench_writes_the_table(tmp_path: Path, weights: Path) -> None:
    out = tmp_path / "deep" / "latency.csv"
    sizes = ("--size", "64x32", "--size", "96x64")
    result = run("bench", "--weights", weights, *sizes, "--frames", 3, "--runtime", "pytorch", "--anyway", "--out", out)
    assert "end_to_end" in result.output and "a fixed computation varied by" in result.output
    rows = out.read_text().splitlines()
    assert rows[0].startswith("machine,cores,model,runtime,precision,height,width,threads,scope,n,p50_ms,p90_ms,p99_ms")
    assert len(rows) == 7 and ",mine,pytorch,fp32,32,64," in rows[1]


@pytest.mark.slow
def test_bench_keeps_what_is_measured_when_a_later_size_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, weights: Path
) -> None:
    from tcseg.bench import busy_machine
    from tcseg.bench import processes as repeats

    right = repeats.bench_repeatedly

    def refused(processes: int, networks: dict, size: tuple[int, int], **options: object) -> object:
        if size == (96, 64):
            raise busy_machine.NoisyMachineError("busy")
        return right(processes, networks, size, **options)

    monkeypatch.setattr(repeats, "bench_repeatedly", refused)
    out, given = tmp_path / "l.csv", ["bench", "--weights", weights, "--frames", 3, "--runtime", "pytorch", "--anyway"]
    run(*given, "--size", "64x32", "--size", "96x64", "--out", out, code=2)
    assert len(out.read_text().splitlines()) == 4
    assert "size is 'big'" in run(*given, "--size", "64x32", "--size", "big", code=2).stderr
    assert (
        "cannot be combined with --processes" in run("bench", "--all", "--processes", 3, code=2).stderr
    )


def test_a_device_that_is_not_there_is_said(weights: Path) -> None:
    for name in ("nonsense", "meta", "cuda:99"):
        told = run("bench", "--weights", weights, "--device", name, code=2).stderr
        assert f"device is '{name}'; it must be cpu, or cuda where there is a GPU" in told


def test_study_passes_everything_on(monkeypatch: pytest.MonkeyPatch) -> None:
    from tcseg.study import run_study

    seen = []
    monkeypatch.setattr(run_study, "run_study", lambda *a: seen.append(a) or 3)
    arguments = ["--dataset", "camvid", "--profile", "smoke", "--notebook", "1", "--notebook", "2", "--seeds", "1"]
    arguments += ["--size", "512x256"]
    run("study", *arguments, "--no-report", code=3)
    run("report", code=3)
    assert seen == [
        ("camvid", "smoke", "train", ["1", "2"], None, 1, False, "512x256"),
        ("procity", "laptop", "reference"),
    ]


def test_data_is_made_where_the_study_looks_for_it(monkeypatch: pytest.MonkeyPatch, data_root: Path) -> None:
    from tcseg import procity

    made = []
    monkeypatch.setattr(procity, "generate", lambda *a, **k: made.append(a[0]))
    assert "next: tcseg study --size 512x256" in run("data", "procity", "--size", "512x256").output
    assert made.pop() == data_root / "procity" / "512x256-160-24-6"
    smoke = ("--size", "128x64", "--train", 8, "--val", 3, "--test", 0, "--neighbours", 1)
    assert "next: tcseg study --profile smoke\n" in run("data", "procity", *smoke).output
    assert made.pop() == data_root / "procity" / "128x64-8-3-0"
    assert "next:" not in run("data", "procity", "--seed", 1).output, "no study looks for another city"
    assert made.pop() == data_root / "procity" / "256x128-160-24-6-2-seed1"
    (data_root / "cityscapes").mkdir()  # a download begun
    for size in ("64x32", "128x64"):
        tree = data_root / "procity" / f"{size}-0-0-0"
        tree.mkdir(parents=True)
        manifest = {"version": procity.VERSION, "parameters": {}, "files": {f"{size}.png": ""}}
        (tree / "manifest.json").write_text(json.dumps(manifest))
        (tree / "flow").mkdir()
    output = run("data", "check", code=1).output
    assert "128x64.png: missing" in output and "64x32.png: missing" in output
    assert re.search(r"cityscapes \(.*\): 1 problem \(.*\n  .*: there is no frame with a label \(0 files in all\)", output)


@pytest.mark.slow
def test_export_on_real_frames(tmp_path: Path, clip: Path, weights: Path) -> None:
    out = tmp_path / "mine.onnx"
    result = run("export", out, "--weights", weights, "--frames", clip, "--size", "96x64", "--scope", "labels")
    assert "of the labels equal PyTorch's on 3 frames" in result.output and out.exists()


def test_a_sweep_lists_what_is_missing_and_trains_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tcseg.study.sweeps.run_sweeps", lambda *_: pytest.fail("it trained"))
    output = run("sweep", "--list", "--profile", "smoke", "--only", "pareto").output
    assert "consistent,temporal=12" in output and re.search(r"\d+ runs, about [\d.]+ hours on one core", output)
