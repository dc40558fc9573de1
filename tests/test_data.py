"""Loading: a small tree in the Cityscapes layout and one of CamVid, made here; real data where it is."""

import json

import cv2
import numpy as np
import pytest
from oracles import write_kitti

from tcseg import data
from tcseg.labels import IGNORE

SIZE = (64, 32)


def write(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), array)


def cityscapes_tree(root, split="train", first=0, city="aachen", flow=False, snippets=2, neighbours=2):
    """Frames around annotated frame first+19 (all 30 for val); content shifts by 2 px a frame."""
    rng = np.random.default_rng(0)
    texture = np.repeat(np.repeat(rng.integers(0, 255, (8, 40, 3), np.uint8), 4, 0), 4, 1)
    window = range(19 - neighbours, 20 + neighbours) if split == "train" else range(30)
    for sequence in range(snippets):
        for t in window:
            stem = f"{city}_{sequence:06d}_{first + t:06d}"
            write(
                root / "leftImg8bit_sequence" / split / city / f"{stem}_leftImg8bit.png", texture[:, 2 * t : 2 * t + 64]
            )
            if flow:
                for name, sign in (("forward", -2), ("backward", 2)):
                    (root / "flow" / split / city).mkdir(parents=True, exist_ok=True)
                    field = np.zeros((2, 32, 64), np.float32)
                    field[0] = sign
                    write_kitti(
                        root / "flow" / split / city / f"{stem}_flow_{name}.png", field, np.ones((32, 64), bool)
                    )
        labels = np.full((32, 64), 7, np.uint8)
        labels[:8], labels[0, 0] = 23, 0
        write(root / "gtFine" / split / city / f"{city}_{sequence:06d}_{first + 19:06d}_gtFine_labelIds.png", labels)
    return root


def load(root, cache, split="train", size=SIZE, **options):
    return data.load_clips("cityscapes", root, split, size, cache, **options)


def test_cityscapes_layout(tmp_path):
    clips = load(cityscapes_tree(tmp_path / "tree", first=275), tmp_path / "cache")
    assert clips.frames.shape == (2, 5, 3, 32, 64) and clips.names == ["aachen_000000_000294", "aachen_000001_000294"]
    assert data.annotated_frame(clips) == 2 and clips.annotated.sum() == 2
    assert clips.labels[0, 2, 0, 0] == IGNORE and clips.labels[0, 2, 1, 0] == 10 and clips.labels[0, 2, 20, 0] == 0
    assert (clips.labels[:, [0, 1, 3, 4]] == IGNORE).all()
    assert clips.flow_source == "dis" and clips.backward is not None


def test_exact_flow_is_used_where_the_tree_has_it(tmp_path):
    clips = load(cityscapes_tree(tmp_path / "tree", flow=True), tmp_path / "cache")
    assert clips.flow_source == "exact" and list(clips.flows) == ["exact"]
    assert (clips.flow[:, :, 0] == -2).all() and (clips.backward[0][:, :, 0] == 2).all()
    half = load(tmp_path / "tree", tmp_path / "cache", size=(32, 32))
    assert np.allclose(half.flow[:, :, 0], -1)


def test_val_has_thirty_frames_and_estimated_flow_too(tmp_path):
    clips = load(cityscapes_tree(tmp_path / "tree", "val", flow=True), tmp_path / "cache", "val")
    assert clips.frames.shape[:2] == (2, 30) and data.annotated_frame(clips) == 19
    assert list(clips.flows) == ["exact", "dis"] and clips.flow.shape == (2, 29, 2, 32, 64)


def test_second_load_comes_from_the_cache_and_changed_files_do_not(tmp_path):
    root = cityscapes_tree(tmp_path / "tree")
    lines = []
    for _ in range(2):
        clips = load(root, tmp_path / "cache", progress=lines.append)
    assert len(lines) == 1 and "decoding 2 cityscapes train clips at 64x32" in lines[0]
    write(
        root / "leftImg8bit_sequence/train/aachen/aachen_000000_000019_leftImg8bit.png", np.zeros((32, 64, 3), np.uint8)
    )
    assert load(root, tmp_path / "cache").key != clips.key
    assert not list((tmp_path / "cache").glob("*.part"))


def test_an_interrupted_cache_is_made_again(tmp_path):
    root = cityscapes_tree(tmp_path / "tree")
    clips = load(root, tmp_path / "cache")
    (tmp_path / "cache" / f"train-{clips.key}" / "meta.json").unlink()
    assert (load(root, tmp_path / "cache").frames == clips.frames).all()


def test_no_disk_space_is_said_before_decoding(tmp_path, monkeypatch):
    from tcseg import machine

    root = cityscapes_tree(tmp_path / "tree")
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1e6}))
    with pytest.raises(OSError, match=r"the decoded train split needs \d+ MB and .* has 1 MB free"):
        load(root, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_limit_spreads_over_the_split(tmp_path):
    root = cityscapes_tree(tmp_path / "tree", snippets=5)
    assert [n[-13:-7] for n in load(root, tmp_path / "c", limit=3).names] == ["000000", "000002", "000004"]


def test_what_is_missing_is_counted_and_named(tmp_path):
    root = cityscapes_tree(tmp_path / "tree")
    frames = root / "leftImg8bit_sequence/train/aachen"
    (frames / "aachen_000001_000018_leftImg8bit.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"aachen_000001: 1 of 5 frames .* 19 are missing.*000018"):
        load(root, tmp_path / "cache")
    with pytest.raises(FileNotFoundError, match="val has no frames: is leftImg8bit_sequence unpacked"):
        load(root, tmp_path / "cache", "val")
    problems = data.check(root, "cityscapes")
    assert any("gtFine/train: 2 of 2975 files" in p for p in problems)
    assert any("leftImg8bit_sequence/train: 9 of 89250 files" in p for p in problems)


def test_broken_files_are_named(tmp_path):
    root = cityscapes_tree(tmp_path / "tree")
    frame = root / "leftImg8bit_sequence/train/aachen/aachen_000000_000018_leftImg8bit.png"
    good = frame.read_bytes()
    frame.write_bytes(good[:40])
    with pytest.raises(ValueError, match="000018_leftImg8bit.png is not a readable image"):
        load(root, tmp_path / "cache")
    frame.write_bytes(good)
    label = root / "gtFine/train/aachen/aachen_000000_000019_gtFine_labelIds.png"
    write(label, np.full((32, 64), 77, np.uint8))
    with pytest.raises(ValueError, match=r"labelIds.png: label ids contain \[77\], outside the Cityscapes table"):
        load(root, tmp_path / "cache")
    write(label, np.full((16, 64), 7, np.uint8))
    with pytest.raises(ValueError, match="is 64x32 but its label .* is 64x16; both must have one size"):
        load(root, tmp_path / "cache")


def camvid_tree(root, train=3, val=20):
    rng = np.random.default_rng(1)
    for split, count in (("train", train), ("val", val)):
        for i in range(count):
            write(root / split / f"s_{i:05d}.png", rng.integers(0, 255, (36, 48, 3), np.uint8))
            write(root / f"{split}annot" / f"s_{i:05d}.png", rng.integers(0, 12, (36, 48), np.uint8))
    return root


def test_camvid(tmp_path):
    root = camvid_tree(tmp_path / "camvid")
    train = data.load_clips("camvid", root, "train", SIZE, tmp_path / "cache")
    assert train.frames.shape == (3, 1, 3, 32, 64) and train.flow is None and train.flow_source is None
    assert set(np.unique(train.labels)) <= {*range(11), IGNORE} and (train.labels == IGNORE).any()
    val = data.load_clips("camvid", root, "val", SIZE, tmp_path / "cache", limit=1)
    assert val.frames.shape == (1, 17, 3, 32, 64) and val.annotated.all() and val.flow_source == "dis"
    assert data.check(root, "camvid")[0].endswith("train: 3 of 367 files")
    (root / "trainannot/s_00001.png").unlink()
    with pytest.raises(FileNotFoundError, match="s_00001.png is missing"):
        data.load_clips("camvid", root, "train", SIZE, tmp_path / "cache")


def test_labelled_subset_is_stratified(tmp_path):
    labels = np.zeros((20, 1, 8, 8), np.uint8)
    for i, rare in enumerate(range(5, 10)):
        labels[3 * i + 2, 0, :2] = rare
    frames = np.zeros((20, 1, 3, 8, 8), np.uint8)
    clips = data.Clips("procity", "train", frames, labels, np.ones((20, 1), bool), {}, [str(i) for i in range(20)], "")
    chosen = data.labelled_subset(clips, 0.25)
    assert chosen == [2, 5, 8, 11, 14]
    assert data.labelled_subset(clips, 1.0) == list(range(20))
    assert len(data.labelled_subset(clips, 0.001)) == 1


def test_environment_variable_comes_first(tmp_path, monkeypatch):
    (tmp_path / "camvid").mkdir()
    monkeypatch.setenv("TCSEG_DATA", str(tmp_path))
    assert data.find_dataset("camvid") == tmp_path / "camvid"
    assert data.find_dataset("no-such-data-set") is None


def real(name):
    folder = data.find_dataset(name)
    if folder is None:
        pytest.skip(f"no real {name} in $TCSEG_DATA or data/")
    return folder


def test_real_camvid_split(tmp_path):
    folder = real("camvid")
    assert data.check(folder, "camvid") == []
    clips = data.load_clips("camvid", folder, "val", (128, 96), tmp_path, limit=1)
    assert clips.annotated.all() and clips.names[0].startswith("0016E5_07959")


def test_real_cityscapes_snippets_and_their_flow(tmp_path):
    clips = data.load_clips("cityscapes", real("cityscapes"), "train", (256, 128), tmp_path, limit=2)
    shares = (
        np.bincount(clips.labels[clips.annotated].reshape(-1), minlength=256)[:19] / clips.labels[clips.annotated].size
    )
    assert shares[0] > 0.2 and shares[2] + shares[8] > 0.2  # road; building and vegetation
    import torch

    from tcseg.flow import warp

    frames = torch.from_numpy(clips.frames[:, 1:].reshape(-1, 3, 128, 256)).float()
    before = torch.from_numpy(clips.frames[:, :-1].reshape(-1, 3, 128, 256)).float()
    seen = torch.from_numpy(clips.visible.reshape(-1, 128, 256))
    flow = torch.from_numpy(clips.flow.reshape(-1, 2, 128, 256)).float()
    warped, inside = warp(frames, flow)
    error, still = ((x - before).abs().mean(1)[seen & inside].mean() for x in (warped, frames))
    assert error < 0.6 * still


def test_procity_manifest_decides_the_key(tmp_path):
    root = cityscapes_tree(tmp_path / "tree", flow=True)
    (root / "manifest.json").write_text(json.dumps({"version": "1", "parameters": {"seed": 0}}))
    one = load(root, tmp_path / "cache").key
    (root / "manifest.json").write_text(json.dumps({"version": "2", "parameters": {"seed": 0}}))
    assert load(root, tmp_path / "cache").key != one
