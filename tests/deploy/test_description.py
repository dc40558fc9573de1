"""What lies in and beside an exported file: its facts, its sidecar, and the script that runs it without this package."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from tcseg.data.images import read_rgb
from tcseg.deploy import description
from tcseg.deploy import export as module
from tcseg.deploy.description import Contents, facts, require_free, script_of, sidecar_of
from tcseg.deploy.export import export, sample_frames
from tcseg.deploy.exported_files import FORMATS, digest, why_missing
from tcseg.deploy.runtimes import open_network, with_smaller_frames
from tcseg.errors import InputError
from tcseg.labels import CITYSCAPES, colorize, own_classes
from tcseg.models import registry, trained_on
from tcseg.models.networks import SegmentationModel


@pytest.fixture(scope="module")
def model() -> SegmentationModel:
    return registry.shipped("student-cpu")


def needs(suffix: str) -> None:
    if why_missing(FORMATS[suffix]):
        pytest.skip(why_missing(FORMATS[suffix]))


def inside(path: Path) -> dict[str, str]:
    """The facts that a file holds."""
    if path.suffix == ".onnx":
        import onnx

        return {entry.key: entry.value for entry in onnx.load(path).metadata_props if not entry.key.startswith("onnx.")}
    if path.suffix == ".xml":
        import openvino

        graph = openvino.Core().read_model(path)
        noted = graph.get_rt_info()["tcseg"]
        return {key: graph.get_rt_info(["tcseg", key]).astype(str) for key in noted if key != "bin_sha256"}
    found = dict.fromkeys(facts(registry.build("student", 19, False), Contents((64, 64))) | {"licence": 0, "weights": 0}, "")
    torch.export.load(path, extra_files=found)
    return {key: value.decode() if isinstance(value, bytes) else value for key, value in found.items()}


def run_script(script: Path, picture: Path, out: Path) -> subprocess.CompletedProcess:
    """A script where `import tcseg` fails."""
    blocked = script.parent / "blocked"
    (blocked / "tcseg").mkdir(parents=True, exist_ok=True)
    (blocked / "tcseg" / "__init__.py").write_text("raise ImportError('tcseg was imported')")
    code = "import tcseg"
    environment = os.environ | {"PYTHONPATH": str(blocked), "OMP_NUM_THREADS": "1"}
    barred = subprocess.run([sys.executable, "-c", code], cwd=blocked, env=environment, capture_output=True, text=True)
    assert "tcseg was imported" in barred.stderr
    command = [sys.executable, str(script), str(picture), str(out)]
    return subprocess.run(command, cwd=blocked, env=environment, capture_output=True, text=True)


def labels_in(painted: Path) -> np.ndarray:
    """The classes of a painted label map."""
    colours = cv2.imread(str(painted))[..., ::-1].astype(int)
    distance = np.abs(colours[:, :, None] - CITYSCAPES.colors.astype(int)).sum(3)
    assert (distance.min(2) == 0).all()  # nothing but the colours of the classes
    return distance.argmin(2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "scope", "more"),
    [
        ("a.onnx", "network", {}),
        ("a.onnx", "labels", {"dynamic": True, "opset": 17}),
        ("a.onnx", "network", {"channels_last": True, "precision": "int8"}),
        ("a b 50%é.xml", "network", {"channels_last": True}),
        ("a.xml", "labels", {"precision": "fp16"}),
        ("a.pt2", "network", {"dynamic": True}),
        ("torch.pt2", "labels", {}),
    ],
    ids=lambda value: str(value),
)
def test_the_script_answers_as_this_package(tmp_path: Path, model: SegmentationModel, name: str, scope: str, more: dict) -> None:
    """Names with odd characters, and one of a package that the script imports."""
    path = tmp_path / name
    needs(path.suffix)
    trained = model.trained_size
    model.trained_size = (160, 96)  # what a dynamic file's script makes of a picture
    picture = tmp_path / "a street.png"
    frame = cv2.resize(sample_frames((64, 40), 1)[0], (230, 150), interpolation=cv2.INTER_CUBIC)
    cv2.imwrite(str(picture), frame[..., ::-1])
    size = trained_on.network_size((230, 150), (160, 96)) if more.get("dynamic") else (160, 96)
    try:
        calibration = sample_frames((160, 96), 4, seed=1)
        result = export(model, path, sample_frames((160, 96), 1), (160, 96), scope, calibration=calibration, **more)
    finally:
        model.trained_size = trained
    out = tmp_path / "out.png"
    done = run_script(result.script, picture, out)
    assert done.returncode == 0, done.stderr
    told = labels_in(out)
    plain = open_network(model, size=size)
    if scope == "network":
        expected = with_smaller_frames(plain, size)(read_rgb(picture))
    else:
        small = plain(cv2.resize(frame, size, interpolation=cv2.INTER_AREA))
        expected = cv2.resize(small, (230, 150), interpolation=cv2.INTER_NEAREST)
    agreement = (told == expected).mean()
    assert agreement >= {"int8": 0.85, "fp16": 0.99}.get(more.get("precision"), 0.999), agreement
    assert len(np.unique(told)) > 2
    _check_sidecar(result, path, scope, more)


def _check_sidecar(result: module.Export, path: Path, scope: str, more: dict) -> None:
    """The sidecar and the file say the same, in the file's own words or typed."""
    noted, said = json.loads(result.sidecar.read_text(encoding="utf-8")), inside(path)
    assert noted["file"] == path.name and noted["sha256"] == digest(path) and noted["script"] == result.script.name
    assert noted["agreement"] == result.agreement
    assert noted["classes"] == list(CITYSCAPES.classes) == json.loads(said["classes"])
    assert noted["colors"] == CITYSCAPES.colors.tolist() == json.loads(said["colors"])
    assert (noted["height"], noted["width"]) == (("dynamic",) * 2 if more.get("dynamic") else (96, 160))
    assert noted["ignored"] == 255 and noted["licence"] == "MIT" and noted["weights"].startswith("student-cpu, shipped")
    assert noted["scope"] == scope and noted["layout"] == ("NHWC" if more.get("channels_last") else "NCHW")
    assert noted["trained_size"] == [160, 96] and noted["mean"] == [123.675, 116.28, 103.53]
    assert noted.get("opset") == (more.get("opset", module.OPSET) if path.suffix == ".onnx" else None)
    for key, value in noted.items():
        if key in said and isinstance(value, str):
            assert said[key] == value, key
    assert said.keys() <= noted.keys() and said["height"] == str(noted["height"]) and said["precision"] == more.get(
        "precision", "fp32"
    )


@pytest.mark.slow
def test_a_script_says_what_is_wrong(tmp_path: Path, model: SegmentationModel) -> None:
    needs(".onnx")
    result = export(model, tmp_path / "x.onnx", size=(64, 64), scope="labels")
    done = run_script(result.script, tmp_path / "absent.jpg", tmp_path / "y.png")
    assert done.returncode == 1 and done.stderr.splitlines()[-1] == f"{tmp_path / 'absent.jpg'} is no picture that can be read"
    usage = subprocess.run([sys.executable, str(result.script)], capture_output=True, text=True)
    assert usage.stderr.strip() == "usage: python x.onnx.py PICTURE [OUT.png]"


def test_two_formats_of_one_name_and_the_weights_have_files_of_their_own() -> None:
    names = [Path(f"x{suffix}") for suffix in (".onnx", ".xml", ".pt2")]
    beside = {one.name for path in names for one in (script_of(path), sidecar_of(path))}
    assert len(beside) == 6 and not beside & {"x.json", "x.py", "x.safetensors"}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer and a comparison that take no time."""
    monkeypatch.setitem(module.WRITERS, ".onnx", lambda network, path, *_: path.write_bytes(b"graph"))
    monkeypatch.setattr(module, "compare", lambda *_: 1.0)


@pytest.mark.parametrize("kind", ["py", "json", "json of others", "link", "folder"])
def test_a_file_of_one_s_own_is_not_written_over(tmp_path: Path, model: SegmentationModel, quick: None, kind: str) -> None:
    needs(".onnx")
    path = tmp_path / "x.onnx"
    mine = tmp_path / f"x.onnx.{'py' if kind in ('py', 'link') else 'json'}"
    if kind == "link":
        mine.symlink_to(tmp_path / "nowhere")
    elif kind == "folder":
        mine.mkdir()
    else:
        mine.write_text({"py": "print('mine')\n", "json": "not json", "json of others": '{"tcseg": "mine"}'}[kind])
    before = None if kind in ("link", "folder") else mine.read_text()
    with pytest.raises(InputError, match=f"out is x.onnx, but {mine} lies beside it and was not written by tcseg export"):
        export(model, path, size=(64, 64))
    assert [file.name for file in tmp_path.iterdir()] == [mine.name]
    assert before is None or mine.read_text() == before


def test_our_own_files_are_replaced(tmp_path: Path, model: SegmentationModel, quick: None) -> None:
    needs(".onnx")
    first = export(model, tmp_path / "x.onnx", size=(64, 64))
    assert "(64, 64)" in first.script.read_text()
    second = export(model, tmp_path / "x.onnx", size=(96, 64))
    assert "(96, 64)" in second.script.read_text() and json.loads(second.sidecar.read_text())["width"] == 96
    assert sorted(file.name for file in tmp_path.iterdir()) == ["x.onnx", "x.onnx.json", "x.onnx.py"]
    require_free(tmp_path / "x.onnx")


def test_where_weights_are_from_is_noted(tmp_path: Path) -> None:
    student = registry.shipped("student")
    assert facts(student, Contents((64, 64)))["weights"].startswith("student, shipped with tcseg")
    registry.save_weights(student, tmp_path / "mine.safetensors")
    plain = facts(registry.load_weights(tmp_path / "mine.safetensors"), Contents((64, 64)))
    assert (plain["weights"], plain["licence"]) == ("mine.safetensors", "not stated") and "teacher" not in plain
    teacher = {"source": "hf:some/thing", "name": "thing", "licence": "research only"}
    registry.save_weights(student, tmp_path / "mine.safetensors", licence="as its teacher's", teacher=teacher)
    adapted = facts(registry.load_weights(tmp_path / "mine.safetensors"), Contents((64, 64)))
    assert adapted["licence"] == "as its teacher's" and adapted["teacher"] == "hf:some/thing (licence: research only)"
    assert "licence" not in facts(registry.build("student", 19, False), Contents((64, 64)))  # nobody knows


def test_facts_are_of_the_contents() -> None:
    network = registry.build("student", own_classes(["a", "b"]), False)
    dynamic = facts(network, Contents((64, 96), "labels", True, "fp16", True, 17))
    assert dynamic["height"] == dynamic["width"] == "dynamic" and dynamic["opset"] == "17"
    assert dynamic["layout"] == "NHWC" and dynamic["precision"] == "fp16" and dynamic["to_labels"].startswith("none needed")
    fixed = facts(network, Contents((64, 96)))
    assert (fixed["height"], fixed["width"]) == ("96", "64") and "bilinear" in fixed["to_labels"] and "opset" not in fixed
    assert json.loads(fixed["colors"]) == colorize(np.arange(2, dtype=np.uint8), network.label_set).tolist()
    assert description.TYPED and set(description.TYPED) & fixed.keys()
