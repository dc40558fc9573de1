"""Several sources: which they are, what their answers are called, and that one bad source does not lose the others."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import typer
from command import run

from tcseg.cli.inputs import expand, plan, unique_names
from tcseg.errors import NotFoundError
from tcseg.video.reading.decoding import read_frames


def clip(path: Path, count: int = 3) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (96, 64))
    for i in range(count):
        frame = np.full((64, 96, 3), 60, np.uint8)
        frame[20:40, 10 * i : 10 * i + 20] = 230
        writer.write(frame)
    writer.release()
    return path


# ------------------------------------------------------------------------------------------------ names


@pytest.mark.parametrize(
    ("sources", "names"),
    [
        (["a.mp4"], ["a"]),
        (["a.mp4", "b.mp4"], ["a", "b"]),
        (["a/x.mp4", "b/x.mp4"], ["a_x", "b_x"]),
        (["x.mp4", "x.avi"], ["x_mp4", "x_avi"]),
        (["d/X.mp4", "e/x.mp4"], ["d_X", "e_x"]),  # one file on a Mac
        (["1/a/x.mp4", "2/a/x.mp4", "y.mp4"], ["1_a_x", "2_a_x", "y"]),
        (["rtsp://one/cam", "rtsp://two/cam", "0"], ["one_cam", "two_cam", "camera0"]),
        (["http://h/v.mp4?k=1"], ["v"]),
    ],
)
def test_names_are_short_and_different(sources, names):
    assert unique_names(sources) == names


def test_names_never_collide_whatever_the_paths():
    rng = np.random.default_rng(0)
    for _ in range(30):
        parts = ["a", "a_x", "x", "X", "b", "x-2"]
        sources = ["/".join(rng.choice(parts, 3)) + str(rng.choice([".mp4", ".avi"])) for _ in range(12)]
        names = [name.casefold() for name in unique_names(list(dict.fromkeys(sources)))]
        assert len(set(names)) == len(names) and not any("/" in name for name in names)


def test_globs_are_expanded_in_natural_order_and_a_file_counts_once(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("clips/c10.mp4", "clips/c2.mp4", "clips/deep/d.mp4", "odd[1].mp4", "clips/.hidden.mp4"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    assert expand(["clips/*.mp4", "./clips/c2.mp4"]) == ["clips/c2.mp4", "clips/c10.mp4"]
    assert expand(["clips/**/*.mp4"])[-1] == "clips/deep/d.mp4" and len(expand(["clips/**/*.mp4"])) == 3
    assert expand(["odd[1].mp4", "0", "http://x/?a=*"]) == ["odd[1].mp4", "0", "http://x/?a=*"]
    with pytest.raises(NotFoundError, match=r"none\*.mp4 matches no file"):
        expand(["none*.mp4"])


def test_where_answers_go(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("p.jpg").touch()
    told = plan(["v.mp4", "p.jpg"], Path("out"), Path("maps"), None)
    assert [job.out for job in told] == [Path("out/v.mp4"), Path("out/p.png")]
    assert [job.labels for job in told] == [Path("maps/v"), Path("maps/p")]
    assert plan(["v.mp4"], Path("x.gif"), Path("maps"), None)[0].labels == Path("maps")
    assert plan(["v.mp4"], None, None, None)[0].out is None
    assert plan(["p.jpg"], None, None, None)[0].out == Path("p_classes.png")
    assert plan(["p.jpg"], None, Path("maps"), None)[0].out is None
    with pytest.raises(typer.BadParameter, match="there are 2 sources; give a folder"):
        plan(["v.mp4", "w.mp4"], Path("x.mp4"), None, None)
    Path("v.mp4").touch()
    with pytest.raises(typer.BadParameter, match="is there already"):  # the source itself, for one
        plan(["v.mp4"], Path("."), None, None)


# ------------------------------------------------------------------------------------------------ the command


def test_one_bad_source_does_not_lose_the_others(tmp_path: Path, weights: Path):
    good = [clip(tmp_path / "a" / "x.avi"), clip(tmp_path / "b" / "x.avi", 2)]
    bad = tmp_path / "c" / "bad.avi"
    bad.parent.mkdir()
    bad.write_text("no video")
    lines = tmp_path / "frames.jsonl"
    given = ["segment", good[0], bad, tmp_path / "gone.avi", tmp_path / "b" / "*.avi", "--out", tmp_path / "out"]
    done = run(*given, "--weights", weights, "--json", lines, code=3)
    assert sorted(one.name for one in (tmp_path / "out").iterdir()) == ["a_x.mp4", "b_x.mp4"]
    assert len(read_frames(tmp_path / "out" / "a_x.mp4", 9)) == 3 and len(read_frames(tmp_path / "out" / "b_x.mp4", 9)) == 2
    assert "2 of 4 sources segmented; these failed:" in done.stderr
    assert "bad.avi cannot be read" in done.stderr and "gone.avi does not exist" in done.stderr
    told = [json.loads(line) for line in lines.read_text().splitlines()]
    assert [(line["source"], line["frame"]) for line in told] == [
        *((str(good[0]), i) for i in range(3)), *((str(good[1]), i) for i in range(2)),
    ]  # fmt: skip


def test_json_alone_is_stdout_which_has_nothing_else(tmp_path: Path, weights: Path):
    film = clip(tmp_path / "x.avi")
    before = film.read_bytes()
    for given in (["--json", film], [film, "--json"], [film, "--json", "-"], ["--json=-", film]):
        done = run("segment", *given, "--weights", weights, "--classes", "road,car")
        told = [json.loads(line) for line in done.stdout.splitlines()]
        assert [line["frame"] for line in told] == [0, 1, 2] and set(told[0]["classes"]) == {"road", "car"}
        assert "3 frames 96x64" in done.stderr
    assert film.read_bytes() == before


@pytest.mark.slow
def test_a_closed_pipe_ends_quietly(tmp_path: Path, weights: Path):
    film = clip(tmp_path / "x.avi", 40)
    command = f"'{sys.executable}' -m tcseg segment '{film}' --json --weights '{weights}' | head -n 2; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 2
    assert not [word for word in ("rror", "Broken", "Traceback") if word in done.stderr]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--classes", "carr"], "Invalid value for '--classes'"),
        (["--start", "1:75"], "Invalid value for '--start'"),
        (["--end", "soon"], "Invalid value for '--end'"),
        (["--start", "99"], "Invalid value for '--start': start is 99 s, but x.avi lasts 0.3 s"),
        (["--start", "0.2", "--end", "0.1"], "Invalid value for '--end'"),
        (["--stride", "0"], "Invalid value for '--stride'"),
        (["--size", "big"], "Invalid value for '--size'"),
        (["--overlay", "3"], "Invalid value for '--overlay'"),
        (["--steady", "slow"], "Invalid value for '--steady'"),
        (["--runtime", "ncnn"], "Invalid value for '--runtime'"),
        (["--device", "moon"], "Invalid value for '--device'"),
        (["--model", "student"], "Invalid value for '--model'"),
        (["--compare"], "Invalid value for '--compare'"),
        (["--out", "x.png"], "Invalid value for '--out'"),
    ],
)
def test_usage_errors_are_the_librarys_and_name_the_option(tmp_path: Path, weights: Path, options, told):
    film = clip(tmp_path / "x.avi")
    done = run("segment", film, "--weights", weights, *options, code=2)
    assert told in done.stderr and "Usage: " in done.stderr and not done.stdout
    assert [one.name for one in tmp_path.iterdir()] == ["x.avi"]
