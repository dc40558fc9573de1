"""The procedural city: exact truth, the Cityscapes layout, determinism, and what happens when things go wrong."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from tcseg import procity
from tcseg.errors import CannotWriteError
from tcseg.labels import CITYSCAPES_ROWS, ids_to_train_ids
from tcseg.procity import writer
from tcseg.procity.rendering import effects, shading
from tcseg.procity.world import geometry, layout
from tcseg.procity.world.geometry import Mesh, Skin
from tcseg.procity.world.textures import INDEX

TINY = (64, 32)
EGO, SKY, STATIC = 1, 23, (7, 8, 11, 12, 13, 17, 20, 21, 22)


def digest(frame: procity.Frame) -> str:
    parts = (frame.image, frame.label_ids, frame.instance_ids, frame.depth, frame.flow_forward, frame.visible_forward)
    return hashlib.sha256(b"".join(np.ascontiguousarray(part).tobytes() for part in parts)).hexdigest()


@pytest.fixture(scope="module")
def pair():
    """Frames 18 and 19 of a snippet without effects, and the snippet."""
    sequence = procity.Sequence("korvin", 8003, (512, 256), effects=False)
    return sequence.render(18), sequence.render(19), sequence


def landing(frame):
    rows, cols = frame.label_ids.shape
    y, x = np.mgrid[0:rows, 0:cols].astype(np.float32)
    return x + frame.flow_forward[0], y + frame.flow_forward[1]


# ------------------------------------------------------------------------------------------------ exactness


def test_flow_explains_the_next_picture(pair):
    a, b, _ = pair
    mask = a.visible_forward & (a.label_ids != EGO)
    now, then = a.image.astype(np.float32), b.image.astype(np.float32)
    warped = cv2.remap(then, *landing(a), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    exact, zero = np.abs(warped - now).mean(2)[mask].mean(), np.abs(then - now).mean(2)[mask].mean()
    assert exact < 4.0
    assert exact < 0.5 * zero


def test_flow_carries_labels_away_from_edges(pair):
    a, b, _ = pair
    kernel = np.ones((3, 3), np.uint8)
    uniform = cv2.erode(a.label_ids, kernel) == cv2.dilate(a.label_ids, kernel)
    there = cv2.remap(b.label_ids, *landing(a), cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
    mask = uniform & a.visible_forward & (a.label_ids != EGO)
    assert (there == a.label_ids)[mask].mean() >= 0.998


def test_backward_flow_returns(pair):
    a, b, _ = pair
    back = np.stack([cv2.remap(c, *landing(a), cv2.INTER_LINEAR) for c in b.flow_backward])
    error = np.hypot(*(back + a.flow_forward))[a.visible_forward]
    assert np.median(error) < 1e-3


def test_flow_is_that_of_depth_and_camera_where_nothing_moves(pair):
    a, b, _ = pair
    k = np.array(
        [[a.camera["intrinsic"]["fx"], 0, a.camera["intrinsic"]["u0"]],
         [0, a.camera["intrinsic"]["fy"], a.camera["intrinsic"]["v0"]], [0, 0, 1]]
    )  # fmt: skip
    pose = [(np.array(f.camera["pose"]["rotation"]), np.array(f.camera["pose"]["centre"])) for f in (a, b)]
    mask = np.isin(a.label_ids, STATIC)
    y, x = np.nonzero(mask)
    rays = np.linalg.inv(k) @ np.stack([x + 0.5, y + 0.5, np.ones(len(x))])
    world = pose[0][0].T @ (rays * a.depth[mask].astype(np.float64)) + pose[0][1][:, None]
    there = k @ pose[1][0] @ (world - pose[1][1][:, None])
    lifted = there[:2] / there[2] - np.stack([x + 0.5, y + 0.5])
    assert np.abs(lifted - a.flow_forward[:, mask]).max() < 1e-3


def test_sky_is_far_and_the_bonnet_stays(pair):
    a, b, _ = pair
    assert np.isinf(a.depth[a.label_ids == SKY]).all()
    assert (a.depth > 0).all()
    assert (a.flow_forward[:, a.label_ids == EGO] == 0).all()
    assert a.visible_forward[a.label_ids == EGO].all()
    assert ((a.label_ids == EGO) == (b.label_ids == EGO)).all()


def test_instances_belong_to_their_label(pair):
    a = pair[0]
    instanced = np.isin(a.label_ids, [row.id for row in CITYSCAPES_ROWS if row.has_instances])
    assert (a.instance_ids[~instanced] == a.label_ids[~instanced]).all()
    assert (a.instance_ids[instanced] // 1000 == a.label_ids[instanced]).all()
    assert len(np.unique(a.instance_ids[a.label_ids == 26])) > 1


def test_a_box_shows_its_outside_unmirrored():
    mesh = Mesh()
    mesh.box((-1, -2, 0), (1, 2, 3), Skin(26), "fblrtu")
    polygons = mesh.finish()
    origin, u, v = polygons.basis.transpose(1, 0, 2)
    size = np.array([c[:n].max(0) for c, n in zip(polygons.corners, polygons.count)])
    outward = origin + u * size[:, :1] / 2 + v * size[:, 1:] / 2 - (0, 0, 1.5)
    assert (np.einsum("nk,nk->n", np.cross(u, v), outward) > 0).all()
    assert np.allclose(v[:4], (0, 0, 1))  # V is up on the four walls, so U x V = outward means U runs to the right


def test_more_polygons_than_ids_are_refused(monkeypatch):
    monkeypatch.setattr(geometry, "MAX_POLYGONS", 5)
    mesh = Mesh()
    mesh.box((-1, -2, 0), (1, 2, 3), Skin(26), "fblrtu")
    with pytest.raises(OverflowError, match="6 polygons; at most 5"):
        mesh.finish()


# ------------------------------------------------------------------------------------------------ determinism


def test_a_frame_depends_on_nothing_but_its_place():
    a, b = (procity.Sequence("aldersund", 5, TINY) for _ in range(2))
    for t in (0, 29, 12, 3):
        a.render(t)
    assert digest(a.render(7)) == digest(b.render(7))
    assert (b.render(7, truth=False).image == a.render(7).image).all()


@pytest.mark.slow
def test_another_process_renders_the_same_bytes():
    code = (
        "import sys; sys.path[:0] = ['tests', 'tests/procity']\nfrom tcseg import procity\nfrom test_procity import digest, TINY\n"
        "assert 'torch' not in sys.modules, 'the renderer imports torch'\n"
        "print(digest(procity.Sequence('aldersund', 5, TINY).render(7)))"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True)
    assert done.stdout.strip() == digest(procity.Sequence("aldersund", 5, TINY).render(7))


@pytest.mark.slow
def test_an_older_processor_agrees(tmp_path):
    """Kernels compiled for any x86-64 or ARM, numpy without its newer instructions: what another machine would do."""
    from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

    code = (
        "import sys, numpy\nfrom tcseg import procity\n"
        "frame = procity.Sequence('korvin', 8003, (128, 64)).render(19)\n"
        "numpy.savez(sys.argv[1], labels=frame.label_ids, image=frame.image, flow=frame.flow_forward)"
    )
    plain = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "", "NUMBA_CACHE_DIR": str(tmp_path)}
    plain["NPY_DISABLE_CPU_FEATURES"] = " ".join(name for name in __cpu_dispatch__ if __cpu_features__[name])
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "x.npz")], check=True, env={**os.environ, **plain})
    here, there = procity.Sequence("korvin", 8003, (128, 64)).render(19), np.load(tmp_path / "x.npz")
    assert (there["labels"] == here.label_ids).mean() >= 0.999
    assert np.abs(there["image"].astype(float) - here.image).mean() < 0.5
    assert np.abs(there["flow"] - here.flow_forward).mean() < 1e-2


def test_ends_of_a_snippet_have_one_flow():
    sequence = procity.Sequence("aldersund", 5, TINY)
    first, last = sequence.render(0), sequence.render(29)
    assert first.flow_backward is None and first.visible_backward is None
    assert last.flow_forward is None and last.visible_forward is None
    assert first.flow_forward.shape == (2, 32, 64)


# ------------------------------------------------------------------------------------------------ effects, strata


@pytest.mark.parametrize("name", procity.EFFECTS)
def test_every_effect_has_a_switch(name):
    clean = procity.Sequence("aldersund", 5, TINY, effects=False)
    single = procity.Sequence("aldersund", 5, TINY, effects={name: 1.0})
    frames = range(0, 30, 6) if name == "exposure" else (7,)
    assert any((clean.render(t).image != single.render(t).image).any() for t in frames)
    assert (clean.render(7).label_ids == single.render(7).label_ids).all()


def test_the_height_of_a_strip_does_not_matter(monkeypatch):
    """Pictures are developed in strips for memory's sake: noise, rain, glare and blur must not show them."""
    every = dict.fromkeys(procity.EFFECTS, 1.0)
    strips = procity.Sequence("aldersund", 5, (128, 64), effects=every).render(7).image
    monkeypatch.setattr(effects, "STRIP", 64)
    assert (procity.Sequence("aldersund", 5, (128, 64), effects=every).render(7).image == strips).all()


def test_an_effect_that_is_off_changes_nothing():
    clean, off = (procity.Sequence("aldersund", 5, TINY, effects=e) for e in (False, {"noise": False}))
    assert (clean.render(7).image == off.render(7).image).all()


def test_rare_classes_are_stratified():
    for block in range(4):
        wished = [layout.wishes(8 * block + slot) for slot in range(8)]
        for name in layout.RARE:
            assert sum(name in wish for wish in wished) == layout.WISHED


def test_no_city_is_in_two_splits():
    names = [city for cities in procity.CITIES.values() for city in cities]
    assert len(set(names)) == len(names)
    assert len(procity.CITIES["train"]) >= 8 and len(procity.CITIES["val"]) >= 3 and len(procity.CITIES["test"]) >= 3


def test_kernels_know_the_rows_of_the_atlas():
    assert (INDEX["detail"], INDEX["cloud"]) == (shading.DETAIL, shading.CLOUD)
    assert (INDEX["white"], INDEX["glass"]) == (0, shading.GLASS)


@pytest.mark.slow
def test_every_class_is_in_a_fifth_of_the_validation_clips():
    clips, pixels, seen = 24, np.zeros(256), np.zeros(256)
    for index in range(clips):
        snippet = writer.SnippetTask("", "val", index, (256, 128), 2, 0)
        sequence = procity.Sequence(snippet.city, snippet.scene_seed, snippet.size, effects=False)
        count = np.zeros(256)
        for t in (0, 10, 19, 29):
            labels = ids_to_train_ids(sequence.render(t, flow=(False, False)).label_ids)
            count += np.bincount(labels.ravel(), minlength=256)
        pixels += count
        seen += count > 0
    assert (seen[:19] >= 0.2 * clips).all()
    assert (pixels[:19] >= 5e-4 * pixels[:19].sum()).all()


# ------------------------------------------------------------------------------------------------ on disk


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """One training and one validation snippet; tests that change it put it right again."""
    root = tmp_path_factory.mktemp("procity") / "data"
    return procity.generate(root, size=TINY, train=1, val=1, test=0, neighbours=1, workers=1, progress=False)


def test_names_and_numbers_of_files(tree):
    def count(pattern):
        return len(list(tree.glob(pattern)))

    assert count("leftImg8bit_sequence/train/*/*_leftImg8bit.png") == 3
    assert count("leftImg8bit_sequence/val/*/*_leftImg8bit.png") == 30
    assert count("leftImg8bit/*/*/*_000019_leftImg8bit.png") == 2
    assert count("gtFine/train/*/*_000019_gtFine_labelIds.png") == count("gtFine/train/*/*_gtFine_labelIds.png") == 1
    for kind in ("labelIds", "instanceIds", "color"):
        assert count(f"gtFine/val/*/*_gtFine_{kind}.png") == 30
    assert count("camera/val/*/*_camera.json") == 30
    assert count("flow/train/*/*_flow_forward.png") == count("flow/train/*/*_flow_backward.png") == 2
    assert count("flow/val/*/*_flow_forward.png") == count("flow/val/*/*_flow_backward.png") == 29
    assert (tree / "leftImg8bit_sequence/train/aldersund/aldersund_000000_000018_leftImg8bit.png").is_file()
    assert not count("**/*.part")


def test_files_hold_what_was_rendered(tree):
    from tcseg.flow import read_kitti

    snippet = writer.SnippetTask(str(tree), "val", 0, TINY, 1, 0)
    frame = procity.Sequence(snippet.city, snippet.scene_seed, TINY).render(19)
    stem = f"val/{snippet.city}/{snippet.city}_000000_000019"
    image = cv2.imread(str(tree / f"leftImg8bit/{stem}_leftImg8bit.png"))[..., ::-1]
    labels = cv2.imread(str(tree / f"gtFine/{stem}_gtFine_labelIds.png"), cv2.IMREAD_UNCHANGED)
    instances = cv2.imread(str(tree / f"gtFine/{stem}_gtFine_instanceIds.png"), cv2.IMREAD_UNCHANGED)
    assert (image == frame.image).all() and (labels == frame.label_ids).all()
    assert (instances == frame.instance_ids).all()
    flow, valid = read_kitti(tree / f"flow/{stem}_flow_forward.png")
    assert flow.dtype == np.float32 and valid.dtype == bool
    assert np.abs(flow - frame.flow_forward)[:, valid].max() <= 1 / 128 + 1e-6
    assert (valid == frame.visible_forward).all()


def test_torchvision_reads_it_unchanged(tree):
    from torchvision.datasets import Cityscapes

    for split in ("train", "val"):
        data = Cityscapes(str(tree), split=split, mode="fine", target_type=["semantic", "instance", "color"])
        image, (semantic, instance, color) = data[len(data) - 1]
        assert image.size == semantic.size == instance.size == color.size == TINY
        assert set(np.unique(semantic)) <= {row.id for row in CITYSCAPES_ROWS}
        for picture in (image, semantic, instance, color):
            picture.load()  # torchvision leaves its files open until they are read
            picture.close()


def test_the_official_evaluator_reads_it_unchanged(tree, monkeypatch):
    """Cityscapes' own script, with the labels as predictions: every score is 1, instances included."""
    monkeypatch.setattr(np, "in1d", np.isin, raising=False)  # the script is older than NumPy 2
    evaluator = pytest.importorskip("cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling")
    monkeypatch.setattr(evaluator.args, "quiet", True)
    monkeypatch.setattr(evaluator.args, "JSONOutput", False)
    truth = [str(path) for path in sorted(tree.glob("gtFine/val/*/*_gtFine_labelIds.png"))]
    results = evaluator.evaluateImgLists(truth, truth, evaluator.args)
    assert results["averageScoreClasses"] == results["averageScoreInstClasses"] == 1
    from cityscapesscripts.helpers.csHelpers import getCsFileInfo

    name = next(tree.glob("leftImg8bit_sequence/val/*/*")).name
    info = getCsFileInfo(name)
    assert (info.city, info.type, info.ext) == (name.split("_")[0], "leftImg8bit", "png")


def test_a_complete_tree_is_left_alone(tree):
    before = {path: path.stat().st_mtime_ns for path in tree.rglob("*")}
    procity.generate(tree, size=TINY, train=1, val=1, test=0, neighbours=1, workers=1)
    assert {path: path.stat().st_mtime_ns for path in tree.rglob("*")} == before
    with pytest.raises(CannotWriteError, match="remove it, or choose another folder with --out"):
        procity.generate(tree, size=TINY, train=2, val=1, test=0, neighbours=1, workers=1)


def test_a_tree_of_an_older_version_is_made_anew(tree, monkeypatch):
    old = json.loads((tree / "manifest.json").read_text())
    monkeypatch.setattr(writer, "VERSION", "0")
    with pytest.raises(ValueError, match="generate it again with"):
        procity.mend(tree)
    monkeypatch.undo()
    (tree / "manifest.json").write_text(json.dumps(old | {"version": "0"}))
    procity.generate(tree, size=TINY, train=1, val=1, test=0, neighbours=1, workers=1, progress=False)
    assert json.loads((tree / "manifest.json").read_text()) == old


def test_damage_is_named_and_mended(tree):
    assert procity.check(tree) == []
    broken, lost = sorted(tree.glob("leftImg8bit_sequence/val/*/*.png"))[4], next(tree.glob("flow/train/*/*.png"))
    kept = broken.read_bytes()
    broken.write_bytes(kept[:100])
    lost.unlink()
    problems = procity.check(tree)
    assert len(problems) == 2 and any(broken.name in problem for problem in problems)
    assert any(lost.name in problem and "missing" in problem for problem in problems)
    assert len(procity.mend(tree)) == 2
    assert procity.check(tree) == [] and broken.read_bytes() == kept
    manifest = json.loads((tree / "manifest.json").read_text())
    elsewhere = {name: "0" * 64 if name.endswith(broken.name) else digest for name, digest in manifest["files"].items()}
    (tree / "manifest.json").write_text(json.dumps(manifest | {"files": elsewhere}))  # made where a last bit differs
    assert len(procity.mend(tree)) == 1 and procity.check(tree) == [], "mended once is mended"


def test_a_tree_without_manifest_is_incomplete(tmp_path):
    assert "tcseg data procity --out" in procity.check(tmp_path)[0]
    with pytest.raises(FileNotFoundError, match="complete the data set with: tcseg data procity"):
        procity.mend(tmp_path)


def test_an_interrupted_generation_goes_on(tmp_path, monkeypatch):
    real, written = writer.write_snippet, []

    def stops(snippet, only=None):
        if written:
            raise KeyboardInterrupt
        written.append(snippet)
        return real(snippet, only)

    options = {"size": TINY, "train": 2, "val": 0, "test": 0, "neighbours": 1, "workers": 1, "progress": False}
    monkeypatch.setattr(writer, "write_snippet", stops)
    with pytest.raises(KeyboardInterrupt):
        procity.generate(tmp_path, **options)
    assert not (tmp_path / "manifest.json").exists()
    monkeypatch.setattr(writer, "write_snippet", lambda snippet: written.append(snippet) or real(snippet))
    procity.generate(tmp_path, **options)
    assert [snippet.index for snippet in written] in ([0, 1], [1, 0])
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["version"] == procity.VERSION and procity.check(tmp_path) == []


@pytest.mark.slow
def test_workers_do_not_matter(tree, tmp_path):
    procity.generate(tmp_path, size=TINY, train=1, val=1, test=0, neighbours=1, workers=2, progress=False)
    files = [json.loads((root / "manifest.json").read_text())["files"] for root in (tree, tmp_path)]
    assert files[0] == files[1]


# ------------------------------------------------------------------------------------------------ bad input


def test_bad_requests_say_what_to_do(tmp_path):
    with pytest.raises(ValueError, match=r"500x333.*use size=\(576, 288\)"):
        procity.generate(tmp_path, size=(500, 333))
    with pytest.raises(ValueError, match="multiples of 32 and W = 2 H"):
        procity.Sequence("aldersund", 0, (256, 256))
    with pytest.raises(ValueError, match="'atlantis'; it must be one of aldersund"):
        procity.Sequence("atlantis", 0)
    with pytest.raises(ValueError, match="seed is -1"):
        procity.Sequence("aldersund", -1)
    with pytest.raises(ValueError, match="'fog'; the valid names are noise"):
        procity.Sequence("aldersund", 0, TINY, effects={"fog": True})
    with pytest.raises(ValueError, match="strength in 0..1"):
        procity.Sequence("aldersund", 0, TINY, effects={"noise": 3})
    with pytest.raises(ValueError, match="t is 30"):
        procity.Sequence("aldersund", 0, TINY).render(30)
    with pytest.raises(ValueError, match="train is -1"):
        procity.generate(tmp_path, train=-1)
    with pytest.raises(ValueError, match="neighbours is 40"):
        procity.generate(tmp_path, neighbours=40)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CannotWriteError, match="not a writable folder"):
        procity.generate(tmp_path / "file", size=TINY, train=1, val=0, test=0)


def test_too_little_disk_says_how_much_is_needed(tmp_path, monkeypatch):
    monkeypatch.setattr(writer.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    with pytest.raises(OSError, match=r"the data set needs \d+ MB"):
        procity.generate(tmp_path, train=10)


def test_the_disk_estimate_is_honest(tree):
    used = sum(path.stat().st_size for path in tree.rglob("*.png"))
    assert used <= procity.disk_bytes(TINY, 1, 1, 0, 1) <= 4 * used
