"""A course that tests run: on a copy of the notebooks, with what it said."""

import io
import shutil
from dataclasses import replace
from pathlib import Path

from tcseg.study.notebooks.dependency_graph import Course, run_course


def run(course: Course) -> tuple[int, str]:
    """Exit code and what was said."""
    stream = io.StringIO()
    return run_course(course, stream=stream), stream.getvalue()


def private(course: Course, folder: Path) -> Course:
    """The same course on a copy of the notebooks, which a test may spoil."""
    shutil.copytree(course.source, folder / "notebooks", ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    return replace(course, source=folder / "notebooks")
