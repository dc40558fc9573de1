"""The notebooks on procity reduced to what Cityscapes offers, at profile smoke."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from courses import private, run

from tcseg.study.notebooks.dependency_graph import Course
from tcseg.study.opening import open_study
from tcseg.study.report.sphinx_build import build_report, check_site
from tcseg.study.run_study import course_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def like_cityscapes(procity: Path, goal: Path) -> None:
    """Copy a procity tree without what Cityscapes lacks: flow, and labels of any frame but the annotated one."""
    for part in ("leftImg8bit_sequence", "gtFine"):
        shutil.copytree(procity / part, goal / part)
    for labels in goal.glob("gtFine/*/*/*"):
        if not re.search(r"_000019_gtFine_", labels.name):
            labels.unlink()


@pytest.fixture(scope="module")
def cityscapes(tmp_path_factory) -> Course:
    folder = tmp_path_factory.mktemp("cityscapes")
    tree = open_study("procity", "smoke", folder=folder / "unused").data_folder()
    like_cityscapes(tree, folder / "data" / "cityscapes")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TCSEG_DATA", str(folder / "data"))
        course = private(course_of("cityscapes", "smoke", out=folder / "study"), folder)
        # The first chapter and the last two have little to do with the data set: they have been run once already.
        inner = {name: files for name, files in course.artefacts.items() if name[:2] not in ("00", "06", "07")}
        course = replace(course, artefacts=inner)
        code, said = run(course)
    assert code == 0, said
    return course


def test_the_way_of_cityscapes_works_without_true_flow(cityscapes):
    for name in cityscapes.artefacts:
        assert cityscapes.missing(name) == []
    ablation = pd.read_csv(cityscapes.folder / "tables" / "ablation.csv")
    assert set(ablation["dataset"]) == {"cityscapes"}
    exact = ablation[ablation["flow"] == "exact"]
    assert exact["tc"].isna().all()  # no true flow: empty, not zero
    assert ablation["miou"].notna().all()
    assert check_site(build_report(cityscapes.folder).parent) == []
