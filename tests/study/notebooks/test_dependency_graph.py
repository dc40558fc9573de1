"""The graph of notebooks: what runs again and what does not, failures, interruption, two at once."""

import io
import os
import re
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest

from tcseg.errors import InputError
from tcseg.study.notebooks import dependency_graph as course_module
from tcseg.study.notebooks import timings
from tcseg.study.notebooks.dependency_graph import Course, digest, lock, run_course, upto, write_times
from tcseg.study.notebooks.execution import NotebookError

WRITES = """from pathlib import Path
table = Path(r"{folder}") / "tables" / "{name}.csv"
table.parent.mkdir(parents=True, exist_ok=True)
_ = table.write_text("{content}")"""


class Three:
    """A course of three notebooks, each of which must leave one table."""

    def __init__(self, folder, write_notebook):
        self.write_notebook, self.study = write_notebook, folder / "study"
        (folder / "module.py").write_text("x = 1")
        self.course = Course(
            artefacts={name: (f"tables/{name[3:]}.csv",) for name in ("01_a", "02_b", "03_c")},
            source=folder / "notebooks",
            folder=self.study,
            parameters={"profile": "smoke", "runs": "train"},
            inputs=[folder / "module.py"],
            again="make study",
        )
        for name in self.course.artefacts:
            self.edit(name)

    def edit(self, name, *cells, content="x\n1"):
        writes = WRITES.format(folder=self.study, name=name[3:], content=content.replace("\n", "\\n"))
        self.write_notebook(self.course.source / f"{name}.ipynb", *(cells or [writes]))

    def run(self, names=None):
        """Exit code, and how each notebook fared."""
        stream = io.StringIO()
        code = run_course(self.course, names, stream)
        self.said = stream.getvalue()
        words = {}
        for line in self.said.splitlines():
            for outcome in ("up to date", "done", "failed"):
                if line.startswith("[") and f"  {outcome}" in line:
                    words[line.split()[1]] = outcome
        return code, words


@pytest.fixture
def three(tmp_path, write_notebook):
    return Three(tmp_path, write_notebook)


@pytest.mark.slow
def test_only_what_changed_runs_again(three):
    assert three.run() == (0, {"01_a": "done", "02_b": "done", "03_c": "done"})
    assert three.run() == (0, {"01_a": "up to date", "02_b": "up to date", "03_c": "up to date"})

    for path in three.course.source.iterdir():  # a clone or a checkout touches; content decides
        os.utime(path)
    assert set(three.run()[1].values()) == {"up to date"}

    three.edit("02_b", content="x\n2")  # its table changes, so 03_c follows
    assert three.run() == (0, {"01_a": "up to date", "02_b": "done", "03_c": "done"})

    (three.study / "tables" / "c.csv").unlink()
    assert three.run() == (0, {"01_a": "up to date", "02_b": "up to date", "03_c": "done"})

    three.course.inputs[0].write_text("x = 2")
    assert set(three.run()[1].values()) == {"done"}


@pytest.mark.slow
def test_a_failure_stops_and_the_next_run_goes_on_from_there(three):
    three.edit("02_b", "1 / 0")
    assert three.run() == (1, {"01_a": "done", "02_b": "failed"})
    assert "02_b.ipynb failed in cell [3]:\n    1 / 0" in three.said
    assert "Correct it, then continue with: make study" in three.said

    three.edit("02_b", "1")
    assert three.run() == (1, {"01_a": "up to date", "02_b": "failed"})
    assert f"02_b ran, but left no tables/b.csv in {three.study}" in three.said

    three.edit("02_b")
    assert three.run() == (0, {"01_a": "up to date", "02_b": "done", "03_c": "done"})
    assert sorted(os.listdir(three.study / "notebooks")) == ["01_a.ipynb", "02_b.ipynb", "03_c.ipynb"]


@pytest.mark.slow
def test_an_old_artefact_does_not_pass_for_a_new_one(three):
    assert three.run(["01_a"]) == (0, {"01_a": "done"})
    three.edit("01_a", "1")
    assert three.run(["01_a"]) == (1, {"01_a": "failed"})


def test_a_mistyped_parameter_is_found_before_anything_runs(three):
    three.course.parameters["epochs"] = 3
    with pytest.raises(NotebookError, match="01_a.ipynb has no parameter 'epochs'"):
        three.run()
    assert not (three.study / "notebooks").exists()


def test_two_studies_do_not_share_a_folder(three):
    three.study.mkdir()
    with lock(three.study), pytest.raises(NotebookError, match="another study is at work in"):
        three.run()


def test_times_are_those_of_the_cold_run(three):
    notebooks, usage = three.study / "notebooks", three.study / "usage"
    usage.mkdir(parents=True)

    def ran(name, duration, trained, loaded):
        path = three.write_notebook(notebooks / f"{name}.ipynb")
        path.write_text(
            path.read_text().replace(
                '"metadata": {},\n "nbformat"', f'"metadata": {{"papermill": {{"duration": {duration}}}}},\n "nbformat"'
            )
        )
        assert timings.seconds(path) == duration
        (usage / f"{name}.json").write_text(f'{{"runs_trained": {trained}, "runs_loaded": {loaded}}}')
        write_times(three.course, name)

    ran("02_b", 10.04, trained=2, loaded=1)
    ran("01_a", 3.0, trained=0, loaded=0)
    ran("01_a", 2.0, trained=0, loaded=0)
    ran("02_b", 1.0, trained=0, loaded=3)  # a warm run says nothing of what the study costs
    table = pd.read_csv(three.study / "tables" / "notebooks.csv")
    assert list(table.columns) == ["profile", "notebook", "seconds", "runs_trained", "runs_loaded"]
    assert table.values.tolist() == [["smoke", "01_a", 2.0, 0, 0], ["smoke", "02_b", 10.0, 2, 1]]


def test_digest_is_of_contents(tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_text("1"), b.write_text("2")
    before = digest([a, b])
    assert digest([b, a]) == before
    a.write_text("3")
    assert digest([a, b]) != before


INTERRUPTED = """
import sys
from pathlib import Path
from tcseg.study.notebooks.dependency_graph import Course, run_course
folder = Path(sys.argv[1])
course = Course({"01_a": ()}, folder, folder / "study", {"profile": "smoke"}, again="make study")
sys.exit(run_course(course))
"""


@pytest.mark.slow
def test_ctrl_c_ends_with_a_line(tmp_path, write_notebook):
    write_notebook(
        tmp_path / "01_a.ipynb", f"open(r'{tmp_path / 'running'}', 'w').close()\nimport time\ntime.sleep(60)"
    )
    command = [sys.executable, "-c", INTERRUPTED, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        deadline = time.monotonic() + 180
        while not (tmp_path / "running").exists():
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.endswith("Interrupted. Finished notebooks are kept; continue with: make study\n")
    assert "Traceback" not in said
    assert os.listdir(tmp_path / "study" / "notebooks") == []


# ------------------------------------------------------------------------------------------------ no failure gets lost


class Odd(Exception):
    """An exception whose text is asked for in vain."""

    def __str__(self):
        return ""


FAULTS = {
    "RuntimeError: boom": RuntimeError("boom"),
    "OSError: [Errno 28] No space left on device": OSError(28, "No space left on device"),
    "MemoryError: no message": MemoryError(),
    "SystemExit: 3": SystemExit(3),
    "Odd: no message": Odd(),
    "KeyError: 'papermill'": KeyError("papermill"),
    "ValueError: first line": ValueError("first line\nsecond line"),
    "AssertionError: no message": AssertionError(),
}


def fail_in(monkeypatch, three, where, error):
    """Let a part of the runner raise."""

    def raises(*args, **kwargs):
        raise error

    def verifies(source, output, parameters, progress, environment, verify):
        verify()

    if where == "verify":
        monkeypatch.setattr(course_module, "execute", verifies)
        monkeypatch.setattr(Course, "missing", raises)
    elif where == "progress":
        monkeypatch.setattr(course_module, "execute", lambda *a, **k: None)
        monkeypatch.setattr(course_module.Progress, "stop", raises)
    elif where == "start":
        monkeypatch.setattr(course_module.Progress, "start", raises)
    elif where == "after":
        monkeypatch.setattr(course_module, "execute", lambda *a, **k: None)
        monkeypatch.setattr(course_module, "write_times", raises)
    elif where == "tables":
        for name in ("execute", "write_times"):
            monkeypatch.setattr(course_module, name, lambda *a, **k: None)
        monkeypatch.setattr(Course, "earlier_tables", raises)
    else:
        monkeypatch.setattr(course_module, "execute", raises)


@pytest.mark.parametrize("where", ["execute", "verify", "progress", "start", "after", "tables"])
@pytest.mark.parametrize("line", FAULTS)
def test_every_exception_is_told_with_its_class_its_text_and_its_place(three, monkeypatch, line, where):
    fail_in(monkeypatch, three, where, FAULTS[line])
    assert three.run(["01_a"])[0] == 1
    last = three.said.splitlines()[-1]
    assert (
        last.startswith(f"01_a: {line}")
        and "tcseg/study/notebooks/dependency_graph.py:" in last
        and last.endswith("set TCSEG_DEBUG=1 to see the traceback")
    )
    assert "Correct it, then continue with: make study" in three.said
    assert "second line" in three.said or "first line" not in line, "a text of several lines is told whole"


def test_the_last_line_goes_to_standard_error(three, monkeypatch, capsys):
    fail_in(monkeypatch, three, "execute", RuntimeError("boom"))
    assert run_course(three.course, ["01_a"]) == 1
    said = capsys.readouterr()
    assert re.fullmatch(
        r"01_a: RuntimeError: boom \(tcseg/study/notebooks/dependency_graph.py:\d+ in _execute\); set TCSEG_DEBUG=1 .*\n",
        said.err,
    )
    assert "[1/1] 01_a  failed in 0:00" in said.out


def test_debugging_shows_the_traceback(three, monkeypatch):
    monkeypatch.setenv("TCSEG_DEBUG", "1")
    fail_in(monkeypatch, three, "execute", RuntimeError("boom"))
    three.run(["01_a"])
    assert "Traceback (most recent call last)" in three.said and "in raises\n    raise error" in three.said


def test_a_message_for_people_stands_alone(three, monkeypatch):
    fail_in(monkeypatch, three, "execute", InputError("size is 3; write 512x256"))
    assert three.run(["01_a"])[0] == 1
    assert three.said.splitlines()[-1] == "01_a: size is 3; write 512x256"


def test_an_interruption_is_no_failure(three, monkeypatch):
    fail_in(monkeypatch, three, "execute", KeyboardInterrupt())
    assert three.run(["01_a"])[0] == 130
    assert three.said.splitlines()[-1] == "Interrupted. Finished notebooks are kept; continue with: make study"


def test_a_clock_that_broke_is_told(three, monkeypatch):
    monkeypatch.setattr(course_module.Progress, "LOG_EVERY", 0.01)

    def slow(*args, **kwargs):
        monkeypatch.setattr(course_module.Progress, "remaining", lambda self: 1 / 0)
        time.sleep(0.2)

    monkeypatch.setattr(course_module, "execute", slow)
    assert three.run(["01_a"])[0] == 1
    assert three.said.splitlines()[-1].startswith(
        "01_a: ZeroDivisionError: division by zero (tcseg/study/notebooks/execution.py:"
    )


def test_notes_that_were_cut_off_are_begun_anew(three, monkeypatch):
    def leaves(source, output, *rest):
        output.parent.mkdir(parents=True, exist_ok=True)
        for path in (output, three.study / "tables" / "a.csv"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("x")

    monkeypatch.setattr(course_module, "execute", leaves)
    monkeypatch.setattr(course_module, "write_times", lambda *a: None)
    assert three.run(["01_a"]) == (0, {"01_a": "done"}) and three.run(["01_a"]) == (0, {"01_a": "up to date"})
    notes = three.study / ".finished.json"
    notes.write_text(notes.read_text()[:-20])
    assert three.run(["01_a"]) == (0, {"01_a": "done"})
    assert f"{notes} was damaged, and is begun anew" in three.said


def test_names_mean_all_notebooks_up_to_the_last():
    order = ["01_a", "02_b", "03_c"]
    assert upto(None, order) == upto(["03_c", "01_a"], order) == order
    assert upto(["02_b"], order) == ["01_a", "02_b"]
