"""The students in the package are the ones that the reference records measured."""

import json

import pytest

from tcseg import procity
from tcseg.data.clips import load_clips
from tcseg.evaluation import split_scores
from tcseg.models import registry
from tcseg.study.paths import FIGURES
from tcseg.study.recipes import PROFILES


def sidecar(name):
    return json.loads((registry.WEIGHTS / f"{name}.json").read_text())


@pytest.mark.parametrize("name", (*registry.SHIPPED, registry.FAST))
def test_a_shipped_student_has_a_committed_record(name):
    meta = sidecar(name)
    record = json.loads((FIGURES / "runs" / f"{meta['run_id']}.json").read_text())
    assert record["metrics"] == meta["metrics"]
    assert (record["recipe_name"], record["seed"]) == (meta["recipe"], 0)
    assert record["model"]["parameters"] == registry.count_parameters(registry.shipped(name))


@pytest.fixture(scope="module")
def val(tmp_path_factory):
    """The val split that the records were measured on, drawn again (a snippet depends on seed, split and index only)."""
    scale, folder = PROFILES["laptop"], tmp_path_factory.mktemp("procity")
    root = procity.generate(folder / "data", size=scale.size, train=0, val=scale.val_snippets, test=0, progress=False)
    return load_clips("procity", root, "val", scale.size, folder / "cache")


@pytest.mark.slow
@pytest.mark.parametrize("name", registry.SHIPPED)
def test_a_shipped_student_scores_what_its_record_says(name, val):
    measured, recorded = split_scores.evaluate(registry.shipped(name), val)["metrics"], sidecar(name)["metrics"]
    # Half precision and another processor's last bits; a wrong file would be off by far more.
    for metric in ("miou", "pixel_accuracy", "flicker"):
        assert measured[metric] == pytest.approx(recorded[metric], abs=0.005), metric
    assert measured["tc"]["exact"] == pytest.approx(recorded["tc"]["exact"], abs=0.005)
