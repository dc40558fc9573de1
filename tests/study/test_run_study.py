"""`run_study` and its arguments; the course itself is in test_dependency_graph.py, the notebooks in test_smoke_study.py."""

from types import SimpleNamespace

import pytest

from tcseg.errors import InputError, NotFoundError, TcsegError
from tcseg.study import paths
from tcseg.study import run_study as runner
from tcseg.study.notebooks.dependency_graph import Course
from tcseg.study.notebooks.execution import NotebookError
from tcseg.study.opening import open_study
from tcseg.study.paths import NOTEBOOKS, study_folder
from tcseg.study.report.publish import PublishError
from tcseg.study.run_study import course_of, data_fingerprint, expected_seconds, known_notebook, run_study


@pytest.fixture
def ran(monkeypatch):
    """The courses that would have been run; nothing is."""
    courses = []
    monkeypatch.setattr(runner, "run_course", lambda course, names=None: courses.append((course, names)) or 0)
    return courses


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dataset": "kitti"}, "dataset is 'kitti'; it must be one of procity, camvid, cityscapes"),
        ({"profile": "huge"}, "profile is 'huge'; it must be one of smoke, laptop, full, bench"),
        ({"runs": "guess"}, "runs is 'guess'; it must be one of train, reference"),
        ({"size": "500x250"}, "size is '500x250'; it must be WIDTHxHEIGHT, both multiples of 32, such as 1024x512"),
        ({"size": "0x0"}, "size is '0x0'"),
        ({"notebooks": ["07_more"]}, "notebook is '07_more'; it must be one of 00_start_here, "),
    ],
)
def test_unknown_arguments_are_refused_with_the_known(options, message, ran, capsys):
    assert run_study(**options) == 2
    assert message in capsys.readouterr().err
    assert ran == []


def test_stale_results_are_not_reported(ran, capsys, monkeypatch):
    monkeypatch.setattr(runner, "stale", lambda: ["procity laptop: student-s0-a: its recipe has changed (steps)"])
    assert run_study(runs="reference") == 1
    assert "committed results are stale:\n  procity laptop" in capsys.readouterr().err
    assert ran == []


@pytest.mark.parametrize("here", [True, False])
def test_a_study_with_committed_rows_of_some_recipes_is_not_shown(ran, capsys, monkeypatch, here):
    """Training one's own is the advice where the data set is there alone."""
    monkeypatch.setattr(runner, "has_data", lambda name: here)
    assert run_study("camvid", runs="reference") == 2
    said = capsys.readouterr().err
    assert "rows of camvid-laptop are without kd+tl, trajectory" in said and "--dataset procity" in said
    assert ("tcseg study --dataset camvid" in said) == here
    assert run_study("cityscapes", "full", runs="reference") == 2
    assert "no reference rows for cityscapes-full" in capsys.readouterr().err and ran == []


def test_a_data_set_that_is_not_there_is_named(ran, capsys, data_root):
    assert run_study("cityscapes", "smoke") == 2
    said = capsys.readouterr().err
    assert f"TCSEG_DATA is not set and there is no folder {data_root / 'cityscapes'}" in said and ran == []


def test_notebooks_by_name_or_number():
    assert [known_notebook(name) for name in ("5", "05", "05_ablations", "05_ablations.ipynb")] == ["05_ablations"] * 4
    assert known_notebook("0") == "00_start_here"


def test_the_course_of_a_study(tmp_path):
    course = course_of("procity", "smoke", out=tmp_path / "mine", seeds=2)
    assert tuple(course.artefacts) == tuple(NOTEBOOKS)
    assert course.parameters == {"dataset": "procity", "profile": "smoke", "runs": "train"}
    assert course.folder == tmp_path / "mine"
    assert course.environment == {"TCSEG_STUDY_FOLDER": str(tmp_path / "mine"), "TCSEG_SEEDS": "2"}
    assert course.again.endswith(f" --seeds 2 --out {tmp_path / 'mine'}")
    names = {path.name for path in course.inputs}
    assert "study.py" in names and "raster.py" in names  # what the notebooks run
    assert {"effect_tables.py", "MODEL_CARD.md.j2"} <= names  # whose text they show
    assert not names & {"cli.py", "run_study.py", "sphinx_build.py", "README.md.j2"}  # what only runs them
    assert all(path.is_file() for path in course.inputs)


def test_another_size_has_its_own_place(monkeypatch, data_root):
    course = course_of("procity", "smoke", size="512x256")
    assert course.folder == study_folder("procity", "smoke", size="512x256") != study_folder("procity", "smoke")
    assert course.environment == {"TCSEG_SIZE": "512x256"} and "--size 512x256" in course.again
    monkeypatch.setenv("TCSEG_SIZE", "512x256")
    study = open_study("procity", "smoke")
    assert study.size == (512, 256) and study.folder == course.folder


def test_a_study_in_its_own_place_tells_the_kernels_nothing():
    course = course_of("procity", "laptop", runs="reference")
    assert course.folder.parts[-3:] == ("data", "study", "procity-laptop-reference")
    assert course.environment == {}
    assert "make report" in course.again


def test_the_report_follows_a_whole_study_only(ran, tmp_path, monkeypatch, capsys):
    built = []
    monkeypatch.setattr(runner, "build_report", lambda folder: built.append(folder) or folder / "report" / "index.html")
    assert run_study("procity", "smoke", notebooks=["2"], out=tmp_path) == 0
    assert ran[-1][1] == ["02_train_teacher"] and built == []
    assert run_study("procity", "smoke", out=tmp_path) == 0
    assert built == [tmp_path]
    assert capsys.readouterr().out == f"report: {tmp_path / 'report' / 'index.html'}\n"


def test_what_stops_a_course_is_printed(monkeypatch, tmp_path, capsys):
    def refuse(course, names=None):
        raise NotebookError("another study is at work")

    monkeypatch.setattr(runner, "run_course", refuse)
    assert run_study("procity", "smoke", out=tmp_path) == 1
    assert capsys.readouterr().err == "tcseg study: another study is at work\n"


def test_the_fingerprint_of_a_real_data_set_is_of_its_files(tmp_path, monkeypatch):
    monkeypatch.setenv("TCSEG_DATA", str(tmp_path))
    (tmp_path / "camvid" / "train").mkdir(parents=True)
    (tmp_path / "camvid" / "train" / "a.png").write_bytes(b"1")
    before = data_fingerprint("camvid")
    (tmp_path / "camvid" / "train" / "a.png").write_bytes(b"12")
    assert len(before) == 64 and data_fingerprint("camvid") != before
    assert data_fingerprint("procity") == ""  # its generator is part of the package
    assert data_fingerprint("cityscapes") == ""  # not there


def test_expected_times_come_from_here_before_the_reference(tmp_path, monkeypatch):
    (tmp_path / "tables").mkdir()
    rows = "profile,notebook,seconds,runs_trained,runs_loaded\nsmoke,05_ablations,30,4,0\nlaptop,05_ablations,900,9,0\n"
    (tmp_path / "tables" / "notebooks.csv").write_text(rows)
    monkeypatch.setattr(runner, "FIGURES", tmp_path)
    assert expected_seconds(tmp_path / "study", "laptop") == {"05_ablations": 900.0}
    assert expected_seconds(tmp_path / "procity-laptop-reference", "laptop") == {}


def test_main_is_for_the_makefile(monkeypatch):
    called = []
    monkeypatch.setattr(runner, "run_study", lambda *a, **k: called.append((a, k)) or 0)
    assert runner.main(["report", "--profile", "smoke"]) == 0
    assert called == [(("procity", "smoke"), {"runs": "reference"})]


def test_nothing_to_publish_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(runner, "study_folder", lambda *a: tmp_path)
    assert runner.reference("procity", "smoke") == 1
    assert "holds no finished study (no tables/ablation.csv): make study DATASET=procity PROFILE=smoke" in (
        capsys.readouterr().err
    )


def test_courses_are_values():
    assert Course({}, None, None, {}) == Course({}, None, None, {})


def test_what_a_notebook_draws_is_read_from_its_code():
    shown = runner.artefacts_named(runner.ROOT / "notebooks" / "05_ablations.ipynb")
    assert {"ablation", "effects", "pareto", "flicker", "accuracy_consistency"} <= shown
    assert not shown & {"controls", "latency"}, "read there, made elsewhere"


def test_the_fast_student_that_ships_is_renewed_by_its_first_seed_alone(tmp_path, monkeypatch):
    """Another machine has other seeds: its weights are no better for being newer."""
    shipped, here = [], [SimpleNamespace(seed=1), SimpleNamespace(seed=0)]
    monkeypatch.setattr(runner, "publish_rows", lambda *_: [])
    monkeypatch.setattr(runner, "with_weights", lambda *_: here)
    monkeypatch.setattr(runner, "ship", lambda run, name: shipped.append((run.seed, name)) or runner.ROOT / "x")
    assert runner.rows("procity", "bench") == 0 and shipped == [(0, "student-cpu")]


def test_rows_are_refused_before_work_starts(capsys):
    assert runner.rows("procity", "huge") == 2 and runner.rows("camvid", "full") == 1
    said = capsys.readouterr()
    assert "make rows: profile is 'huge'; it must be one of" in said.err
    assert "train some with: make sweeps DATASET=camvid PROFILE=full" in said.err
    assert said.out == ""


# ------------------------------------------------------------------------------------------------ no failure gets lost


def raising(error):
    def raises(*args, **kwargs):
        raise error

    return raises


@pytest.mark.parametrize(
    ("error", "line", "code"),
    [
        (RuntimeError("boom"), "RuntimeError: boom", 1),
        (OSError(28, "No space left on device"), "OSError: [Errno 28] No space left on device", 1),
        (MemoryError(), "MemoryError: no message", 1),
        (SystemExit(3), "SystemExit: 3", 1),
        (ValueError("operands could not be broadcast"), "ValueError: operands could not be broadcast", 1),
        (InputError("size is 3; write 512x256"), "size is 3; write 512x256", 2),
        (PublishError("no finished study"), "no finished study", 1),
        (KeyboardInterrupt(), "interrupted", 130),
    ],
)
@pytest.mark.parametrize(
    ("who", "part", "arguments"),
    [
        ("tcseg study", "course_of", ["study"]),
        ("tcseg study", "run_course", ["study", "--profile", "smoke"]),
        ("tcseg study", "build_report", ["report"]),
        ("make rows", "publish_rows", ["rows"]),
        ("make reference", "publish", ["reference"]),
    ],
)
def test_a_failure_ends_in_one_line_whatever_it_is(who, part, arguments, error, line, code, monkeypatch, capsys):
    for name in ("run_course", "_compare", "stale"):
        monkeypatch.setattr(runner, name, lambda *a, **k: 0)
    monkeypatch.setattr(runner, part, raising(error))
    assert runner.main(arguments) == code
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"{who}: {line}")
    ours = isinstance(error, (TcsegError, KeyboardInterrupt))
    assert ours == (last == f"{who}: {line}")
    assert ours or ("(tcseg/study/run_study.py:" in last and last.endswith("; set TCSEG_DEBUG=1 to see the traceback"))


def test_debugging_shows_where_a_command_failed(monkeypatch, capsys):
    monkeypatch.setenv("TCSEG_DEBUG", "1")
    monkeypatch.setattr(runner, "publish", raising(RuntimeError("boom")))
    assert runner.main(["reference"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("Traceback (most recent call last)") and "make reference: RuntimeError: boom" in said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"profile": "smoke"}, "no reference rows for procity-smoke are committed"),
        ({"profile": "full"}, "no reference rows for procity-full are committed"),
        ({"profile": "bench"}, "profile is 'bench'; it must be one of smoke, laptop, full"),
        (
            {"size": "512x256"},
            "procity-laptop are of frames of 512x256: those committed are of 256x128; leave out --size",
        ),
        ({"seeds": 6}, "the committed rows of procity-laptop have 5 of 6 seeds of student; leave out --seeds"),
        (
            {"dataset": "camvid"},
            "the committed rows of camvid-laptop are without kd+tl, trajectory; use --dataset procity",
        ),
    ],
)
def test_what_is_not_committed_is_refused_before_a_kernel_starts(options, message, ran, capsys):
    assert run_study(runs="reference", **options) == 2
    assert message in capsys.readouterr().err and ran == []


def test_a_study_that_is_committed_is_shown(ran, monkeypatch):
    monkeypatch.setattr(runner, "stale", list)
    assert run_study(runs="reference", with_report=False) == run_study(runs="reference", seeds=5, notebooks=["5"]) == 0
    assert [names for _, names in ran] == [None, ["05_ablations"]]


def test_an_installed_package_says_which_folders_it_lacks(tmp_path, monkeypatch, capsys):
    paths.require_checkout("tcseg report", "notebooks", "figures/runs")  # here they are
    monkeypatch.setattr(paths, "REPOSITORY", tmp_path / "site-packages")
    monkeypatch.setattr(paths, "FIGURES", tmp_path / "figures")
    with pytest.raises(NotFoundError, match=r"^tcseg sweep --list needs figures/runs/, .*: run from a clone of the repository$"):
        paths.require_checkout("tcseg sweep --list", "figures/runs")
    assert run_study(runs="reference") == 1
    words = capsys.readouterr().err
    assert "needs notebooks/ and figures/runs/" in words and words.count("\n") == 1
    (tmp_path / "figures" / "runs").mkdir(parents=True)
    paths.require_checkout("tcseg sweep --list", "figures/runs")
