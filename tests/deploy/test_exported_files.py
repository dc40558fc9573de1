"""Exported files that are moved, mixed or damaged, and places where none can be written."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from tcseg.deploy import export as module
from tcseg.deploy.export import OPSETS, export, sample_frames
from tcseg.deploy.exported_files import open_file, why_missing
from tcseg.deploy.label_map import to_planes
from tcseg.errors import CannotRunError, CannotWriteError, InputError, NotFoundError
from tcseg.models import registry
from tcseg.models.networks import SegmentationModel

SIZE = (64, 64)


@pytest.fixture(scope="module")
def model() -> SegmentationModel:
    return registry.shipped("student-cpu")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, model: SegmentationModel) -> Path:
    """An OpenVINO file with its weights."""
    if why_missing("openvino"):
        pytest.skip(why_missing("openvino"))
    path = tmp_path_factory.mktemp("exported") / "x.xml"
    return export(model, path, size=SIZE).path


@pytest.mark.slow
def test_an_openvino_file_is_moved_with_its_weights(exported: Path, tmp_path: Path) -> None:
    moved = tmp_path / "a 50% é" / "-y.xml"
    moved.parent.mkdir()
    shutil.copy(exported, moved)
    with pytest.raises(NotFoundError, match=r"-y.bin does not exist; it has the weights of -y.xml: move both files together"):
        open_file(moved)
    shutil.copy(exported.with_suffix(".bin"), moved.with_suffix(".bin"))
    frame = to_planes(sample_frames(SIZE, 1)[0])
    assert np.array_equal(open_file(moved, threads=1)(frame).copy(), open_file(exported, threads=1)(frame))


@pytest.mark.slow
def test_weights_of_another_network_are_refused(exported: Path, tmp_path: Path) -> None:
    """Of the same length: OpenVINO itself takes them, and answers nonsense."""
    mixed = tmp_path / "x.xml"
    shutil.copy(exported, mixed)
    weights = bytearray(exported.with_suffix(".bin").read_bytes())
    weights[4000:8000] = bytes(4000)
    mixed.with_suffix(".bin").write_bytes(weights)
    for defaults in (False, True):
        with pytest.raises(InputError, match="x.bin does not belong to x.xml .*export both again"):
            open_file(mixed, defaults=defaults)
    import openvino

    openvino.Core().read_model(mixed)  # nothing is said
    mixed.write_text(mixed.read_text()[:-300])
    with pytest.raises(InputError, match="x.xml is no OpenVINO file, or is damaged"):
        open_file(mixed)
    with pytest.raises(NotFoundError, match="absent.onnx does not exist"):
        open_file(tmp_path / "absent.onnx")


@pytest.mark.parametrize("stop", [1, 2])
def test_a_crash_between_two_names_leaves_no_mixture(
    tmp_path: Path, model: SegmentationModel, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    """An old graph beside new weights opens without a word, in every program."""
    if why_missing("openvino"):
        pytest.skip(why_missing("openvino"))

    def write(_: object, path: Path, *__: object) -> None:
        path.write_text("new graph")
        path.with_suffix(".bin").write_text("new weights")

    monkeypatch.setitem(module.WRITERS, ".xml", write)
    monkeypatch.setattr(module, "compare", lambda *_: 1.0)
    path, done, replace = tmp_path / "x.xml", [], Path.replace
    path.write_text("old graph")
    path.with_suffix(".bin").write_text("old weights")

    def crash(self: Path, target: Path) -> Path:
        done.append(target.name)
        if len(done) == stop:
            raise KeyboardInterrupt
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", crash)
    with pytest.raises(KeyboardInterrupt):
        export(model, path, size=SIZE)
    assert done == ["x.bin", "x.xml"][:stop]
    assert not path.exists()  # nothing to open, where the weights may be other ones
    monkeypatch.setattr(Path, "replace", replace)
    export(model, path, size=SIZE)
    assert (path.read_text(), path.with_suffix(".bin").read_text()) == ("new graph", "new weights")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["x.bin", "x.xml", "x.xml.json", "x.xml.py"]


@pytest.mark.parametrize("name", ["a b.onnx", "50%d.onnx", "ü é.onnx", "-x.onnx", "x.y.onnx", "'\"\"\".onnx", "a\nb.onnx"])
def test_names_with_odd_characters(
    tmp_path: Path, model: SegmentationModel, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setitem(module.WRITERS, ".onnx", lambda network, path, *_: path.write_bytes(b"graph"))
    monkeypatch.setattr(module, "compare", lambda *_: 1.0)
    monkeypatch.chdir(tmp_path)
    result = export(model, f"./{name}", size=SIZE)
    assert sorted(os.listdir(tmp_path)) == sorted([name, f"{name}.json", f"{name}.py"])
    compile(result.script.read_text(), "script", "exec")


def test_a_place_where_nothing_can_be_written_is_told_before_any_work(
    tmp_path: Path, model: SegmentationModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(module.WRITERS, ".onnx", lambda *_: pytest.fail("it worked"))
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotWriteError, match="file cannot be written .*give out another folder"):
        export(model, tmp_path / "file" / "x.onnx", size=SIZE)
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    with pytest.raises(CannotWriteError, match="locked cannot be written .*permission denied"):
        export(model, locked / "x.onnx", size=SIZE)


@pytest.mark.slow
@pytest.mark.parametrize("opset", [OPSETS[0], 17, OPSETS[-1]])
def test_an_opset_is_the_file_s(tmp_path: Path, model: SegmentationModel, opset: int) -> None:
    if why_missing("onnxruntime"):
        pytest.skip(why_missing("onnxruntime"))
    import onnx

    from tcseg.deploy.onnx_rewrites import takes_bytes

    result = export(model, tmp_path / "x.onnx", size=SIZE, scope="labels", opset=opset)
    graph = onnx.load(result.path)
    assert {one.domain: one.version for one in graph.opset_import}[""] == opset == result.opset
    assert result.agreement >= 0.999 and takes_bytes(graph.graph)  # the normalisation is folded as ever
    assert {entry.key: entry.value for entry in graph.metadata_props}["opset"] == str(opset)


@pytest.mark.slow
def test_an_opset_that_the_exporter_cannot_write_is_refused(
    tmp_path: Path, model: SegmentationModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch's version converter leaves opset 18 where it was asked for 15, without a word."""
    if why_missing("onnxruntime"):
        pytest.skip(why_missing("onnxruntime"))
    monkeypatch.setattr(module, "OPSETS", range(15, 27))
    with pytest.raises(CannotRunError, match="opset is 15, but this network's graph comes out with opset 18: use 20"):
        export(model, tmp_path / "x.onnx", size=SIZE, opset=15)
    assert not list(tmp_path.iterdir())
