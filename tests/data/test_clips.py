"""Loading: a small tree in the Cityscapes layout and one of CamVid (trees.py); real data where it is."""

import json
import os
import shutil

import cv2
import numpy as np
import pytest
from PIL import Image
from trees import camvid_tree, cityscapes_tree, write

from tcseg.data import clips as data
from tcseg.data import folders, integrity
from tcseg.labels import IGNORE
from tcseg.study.paths import FIGURES
from tcseg.study.recipes import PROFILES

SIZE = (64, 32)


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
    part = "cityscapes train: 2 of 2975 snippets, 1 of 18 cities (aachen)"
    assert lines == [part, "decoding 2 cityscapes train clips at 64x32", part]
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
    with pytest.raises(OSError, match=r"the decoded train split needs \d+ MB, but the disk of .* has 1 MB free"):
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


def test_broken_files_are_named(tmp_path):
    root = cityscapes_tree(tmp_path / "tree")
    frame = root / "leftImg8bit_sequence/train/aachen/aachen_000000_000018_leftImg8bit.png"
    good = frame.read_bytes()
    frame.write_bytes(good[:40])
    with pytest.raises(ValueError, match="000018_leftImg8bit.png is cut off or damaged"):
        load(root, tmp_path / "cache")
    frame.write_bytes(good)
    label = root / "gtFine/train/aachen/aachen_000000_000019_gtFine_labelIds.png"
    write(label, np.full((32, 64), 77, np.uint8))
    with pytest.raises(ValueError, match=r"labelIds.png: label ids contain \[77\], outside the Cityscapes table"):
        load(root, tmp_path / "cache")
    write(label, np.full((16, 64), 7, np.uint8))
    with pytest.raises(ValueError, match="is 64x32 but its label .* is 64x16; both must have one size"):
        load(root, tmp_path / "cache")


def test_camvid(tmp_path):
    root = camvid_tree(tmp_path / "camvid")
    train = data.load_clips("camvid", root, "train", SIZE, tmp_path / "cache")
    assert train.frames.shape == (3, 1, 3, 32, 64) and train.flow is None and train.flow_source is None
    assert set(np.unique(train.labels)) <= {*range(11), IGNORE} and (train.labels == IGNORE).any()
    val = data.load_clips("camvid", root, "val", SIZE, tmp_path / "cache", limit=1)
    assert val.frames.shape == (1, 17, 3, 32, 64) and val.annotated.all() and val.flow_source == "dis"
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
    assert folders.find_dataset("camvid") == tmp_path / "camvid"
    assert folders.find_dataset("no-such-data-set") is None


def real(name):
    folder = folders.find_dataset(name)
    if folder is None:
        pytest.skip(f"no real {name} in $TCSEG_DATA or data/")
    return folder


@pytest.mark.slow
def test_real_camvid_split(tmp_path):
    folder = real("camvid")
    report = integrity.check(folder, "camvid")
    assert report.problems == report.subset == [] and report.decoded == 936
    clips = data.load_clips("camvid", folder, "val", (128, 96), tmp_path, limit=1)
    assert clips.annotated.all() and clips.names[0].startswith("0016E5_07959")


def test_committed_rows_are_of_these_files():
    """Whatever changes in how files are found: the keys of data that are whole stay."""
    folder, scale = real("camvid"), PROFILES["laptop"]
    rows = [json.loads(path.read_text()) for path in (FIGURES / "runs").glob("student-s*.json")]
    row = next(one for one in rows if (one["dataset"], one["profile"]) == ("camvid", "laptop"))
    keys = []
    for split, limit in (("train", None), ("val", scale.val_snippets)):
        snippets, coverage = data.find_snippets("camvid", folder, split, scale.neighbours, limit)
        keys.append(data.split_key("camvid", folder, split, scale.camvid_size, scale.neighbours, snippets))
        assert coverage.whole
    assert keys == row["data_key"]


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


# ------------------------------------------------------------------------------------------------ nothing is silent


def below(root, kind, split="train"):
    return sorted((root / kind / split).rglob("*.png"))


def said(root, tmp_path, split="train", dataset="cityscapes"):
    """What a load tells of what is there."""
    lines = []
    clips = data.load_clips(dataset, root, split, SIZE, tmp_path / "cache", progress=lines.append)
    return clips, next((line for line in lines if not line.startswith("decoding")), "")


def test_what_is_left_out_is_counted_and_named(tmp_path):
    root = cityscapes_tree(tmp_path / "tree")
    for city in ("ulm", "jena", "bochum"):
        cityscapes_tree(root, city=city, snippets=3)
    shutil.rmtree(root / "gtFine/train/ulm")
    shutil.rmtree(root / "leftImg8bit_sequence/train/jena")
    for path in (root / "leftImg8bit_sequence/train/bochum").glob("bochum_000001_*"):
        path.unlink()
    (root / "leftImg8bit_sequence/train/aachen/frame7.png").write_bytes(b"x")
    clips, line = said(root, tmp_path)
    assert len(clips) == 4 and clips.coverage.cities == ("aachen", "bochum")
    assert "train: 4 of 2975 snippets, 2 of 18 cities (aachen, bochum)" in line
    for part in (
        "3 labels of 1 city without frames (jena)",
        "1 label without frames (bochum_000001_000019)",
        "15 frames without a label: ulm_000000_000017, ulm_000001_000017, ulm_000002_000017 (no label at all in 1 city: ulm)",
        "1 picture with names of another form (frame7.png)",
    ):
        assert part in line, line
    assert not clips.coverage.whole


def test_a_lost_label_is_told(tmp_path):
    root = cityscapes_tree(tmp_path / "tree", snippets=3)
    below(root, "gtFine")[1].unlink()
    clips, line = said(root, tmp_path)
    assert len(clips) == 2 and "5 frames without a label: aachen_000001_000017" in line


def test_no_label_has_its_frames(tmp_path):
    root = cityscapes_tree(tmp_path / "tree")
    cityscapes_tree(tmp_path / "other", city="ulm")
    shutil.rmtree(root / "leftImg8bit_sequence")
    (tmp_path / "other/leftImg8bit_sequence").rename(root / "leftImg8bit_sequence")
    with pytest.raises(FileNotFoundError, match=r"no label in .*gtFine.train has its frames \(first: aachen_000000_000019"):
        load(root, tmp_path / "cache")


@pytest.mark.parametrize("kind", ["leftImg8bit_sequence", "gtFine"])
def test_two_files_of_one_frame(tmp_path, kind):
    root = cityscapes_tree(tmp_path / "tree")
    one = below(root, kind)[0]
    (root / kind / "train/copy").mkdir()
    shutil.copy(one, root / kind / "train/copy" / one.name)
    with pytest.raises(ValueError, match=f"{one.name} and .*copy.{one.name} belong to the same frame"):
        load(root, tmp_path / "cache")
    shutil.rmtree(root / kind / "train/copy")
    shutil.copy(one, one.with_suffix(".PNG"))
    with pytest.raises(ValueError, match=r"\.PNG and .*\.png belong to the same frame"):
        load(root, tmp_path / "cache")


def test_names_of_files_do_not_change_what_is_loaded(tmp_path):
    """Suffixes in any case, JPEG frames' names, links to folders, hidden files: the same arrays as without."""
    plain = load(cityscapes_tree(tmp_path / "plain"), tmp_path / "cache")
    root = cityscapes_tree(tmp_path / "tree")
    for path in [*below(root, "leftImg8bit_sequence")[::2], *below(root, "gtFine")[:1]]:
        path.rename(path.with_suffix(".PNG"))
    for place in ("leftImg8bit_sequence/train", "gtFine/train"):
        city = root / place / "aachen"
        (tmp_path / "disk" / place).mkdir(parents=True)
        city.rename(tmp_path / "disk" / place / "aachen")
        city.symlink_to(tmp_path / "disk" / place / "aachen", target_is_directory=True)
        first = next(city.iterdir())
        shutil.copy(first, city / f"._{first.name}")
        (root / place / "__MACOSX").mkdir()
        shutil.copy(first, root / place / "__MACOSX" / first.name)
    (tmp_path / "linked").symlink_to(root, target_is_directory=True)
    clips = load(tmp_path / "linked", tmp_path / "cache")
    assert (clips.frames == plain.frames).all() and (clips.labels == plain.labels).all() and len(clips) == 2


def test_jpeg_frames_are_read_whole_or_refused(tmp_path):
    root = cityscapes_tree(tmp_path / "tree")
    for path in below(root, "leftImg8bit_sequence"):
        cv2.imwrite(str(path.with_suffix(".jpg")), cv2.imread(str(path)))
        path.unlink()
    assert len(load(root, tmp_path / "cache")) == 2
    cut = sorted(root.rglob("*.jpg"))[3]
    cut.write_bytes(cut.read_bytes()[:-200] + b"\xff\xd9")
    with pytest.raises(ValueError, match=f"{cut.name} is cut off or damaged"):
        load(root, tmp_path / "cache")


def test_a_turned_frame_is_turned(tmp_path):
    """A camera that was held upright: frames say so in their metadata, labels in their shape."""
    root = cityscapes_tree(tmp_path / "tree", snippets=1)
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = load(root, tmp_path / "cache").frames
    for path in below(root, "leftImg8bit_sequence"):
        Image.fromarray(np.rot90(cv2.imread(str(path))[..., ::-1])).save(path, exif=exif)
    assert (load(root, tmp_path / "cache").frames == upright).all()


def test_frames_of_two_sizes_in_a_clip_are_refused(tmp_path):
    root = cityscapes_tree(tmp_path / "tree")
    write(below(root, "leftImg8bit_sequence")[1], np.zeros((64, 128, 3), np.uint8))
    with pytest.raises(ValueError, match=r"000017_leftImg8bit.png is 64x32 but the frame .*000018.* is 128x64"):
        load(root, tmp_path / "cache")


# ------------------------------------------------------------------------------------------------ labels of many kinds


def as_train_ids(root):
    from tcseg.labels import ids_to_train_ids

    for path in below(root, "gtFine"):
        write(path, ids_to_train_ids(cv2.imread(str(path), cv2.IMREAD_UNCHANGED)))
        path.rename(path.with_name(path.name.replace("_labelIds", "_labelTrainIds")))


def test_label_train_ids_are_read_by_their_name(tmp_path):
    plain = load(cityscapes_tree(tmp_path / "plain"), tmp_path / "cache")
    root = cityscapes_tree(tmp_path / "tree")
    as_train_ids(root)
    assert (load(root, tmp_path / "cache").labels == plain.labels).all()
    shutil.copytree(tmp_path / "plain/gtFine", root / "gtFine", dirs_exist_ok=True)
    assert load(root, tmp_path / "cache").key == plain.key, "where both are there, ids are read"
    for path in below(root, "gtFine"):
        path.unlink()
    write(path.with_name(path.name.replace("_labelIds", "_labelTrainIds")), np.full((32, 64), 19, np.uint8))
    with pytest.raises(ValueError, match="labelTrainIds.png contains label 19, outside the trainIds"):
        load(root, tmp_path / "cache")


@pytest.mark.parametrize("void", [True, False])
def test_train_ids_under_the_name_of_ids_are_refused(tmp_path, void):
    root = cityscapes_tree(tmp_path / "tree")
    values = np.zeros((32, 64), np.uint8)
    values[:, 8:30], values[:10] = 10, 13
    values[0] = 255 if void else 7
    for path in below(root, "gtFine"):
        write(path, values)
    with pytest.raises(ValueError, match="name the(m| file) _gtFine_labelTrainIds.png"):
        load(root, tmp_path / "cache")


def test_labels_that_are_void_everywhere_are_refused(tmp_path):
    root = cityscapes_tree(tmp_path / "tree")
    for path in below(root, "gtFine"):
        write(path, np.zeros((32, 64), np.uint8))
    with pytest.raises(ValueError, match="every pixel of every label is void"):
        load(root, tmp_path / "cache")


@pytest.mark.parametrize("kind", ["palette", "16 bits"])
def test_other_encodings_of_the_same_ids(tmp_path, kind):
    plain = load(cityscapes_tree(tmp_path / "plain"), tmp_path / "cache")
    root = cityscapes_tree(tmp_path / "tree")
    for path in below(root, "gtFine"):
        ids = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if kind == "palette":
            image = Image.fromarray(ids).convert("P")
            image.putdata(ids.ravel().tolist())
            image.putpalette(np.random.default_rng(0).integers(0, 256, 768).tolist())
            image.save(path)
        else:
            write(path, ids.astype(np.uint16))
    assert (load(root, tmp_path / "cache").labels == plain.labels).all()


def test_what_cannot_be_labels_is_named_with_what_would_do(tmp_path):
    root = cityscapes_tree(tmp_path / "tree")
    label = below(root, "gtFine")[0]
    for array, told in (
        (np.zeros((32, 64, 3), np.uint8), "holds colours; a label map holds one id a pixel"),
        (np.full((32, 64), 26001, np.uint16), r"holds values in 26001\.\.26001; .* instanceIds"),
    ):
        write(label, array)
        with pytest.raises(ValueError, match=told):
            load(root, tmp_path / "cache")
    for ending, told in (
        ("_gtFine_color.png", "colours and no ids: get gtFine with its _labelIds.png"),
        ("_gtFine_polygons.json", "polygons alone: csCreateTrainIdLabelImgs"),
        ("_gtFine_instanceIds.png", "instanceIds alone"),
        ("_gtCoarse_labelIds.png", "coarse labels .*: get gtFine"),
        ("_mask.png", "names must be <city>_<sequence>_<frame>_gtFine_labelIds.png"),
    ):
        shutil.rmtree(root / "gtFine/train")
        path = root / "gtFine/train/aachen" / f"aachen_000000_000019{ending}"
        path.parent.mkdir(parents=True)
        path.write_bytes(b"x")
        with pytest.raises(FileNotFoundError, match=f"has no labels.*{told}"):
            load(root, tmp_path / "cache")
    shutil.rmtree(root / "leftImg8bit_sequence")
    write(root / "leftImg8bit/train/aachen/aachen_000000_000019_leftImg8bit.png", np.zeros((32, 64, 3), np.uint8))
    with pytest.raises(FileNotFoundError, match="leftImg8bit has the annotated frames alone"):
        load(root, tmp_path / "cache")
    write(root / "leftImg8bit_sequence/train/aachen/aachen_1_19_leftImg8bit.png", np.zeros((32, 64, 3), np.uint8))
    shutil.rmtree(root / "leftImg8bit")
    with pytest.raises(FileNotFoundError, match="aachen_1_19_leftImg8bit.png, but names must be .* six digits"):
        load(root, tmp_path / "cache")


# ------------------------------------------------------------------------------------------------ procity, CamVid, the cache


def procity_tree(root, split="train", snippets=2):
    cityscapes_tree(root, split, flow=True, snippets=snippets)
    for path in below(root, "leftImg8bit_sequence", split):
        name = path.name.replace("leftImg8bit", "gtFine_labelIds")
        if split != "train":
            write(root / "gtFine" / split / "aachen" / name, np.full((32, 64), 23, np.uint8))
    (root / "manifest.json").write_text(json.dumps({"version": "1", "parameters": {split: snippets}, "files": {}}))
    return root


@pytest.mark.parametrize(
    ("lost", "told"),
    [
        ("gtFine/val/aachen/aachen_000001_000003_gtFine_labelIds.png", "labels of aachen_000001_000019"),
        ("flow/val/aachen/aachen_000001_000003_flow_forward.png", "1 of 2 snippets lack exact flow"),
        ("flow/val/aachen/aachen_000000_000029_flow_backward.png", "1 of 2 snippets lack exact flow"),
        ("leftImg8bit_sequence/val/aachen/aachen_000001_000003_leftImg8bit.png", "1 of 30 frames .* are missing"),
        ("gtFine/val/aachen/aachen_000001_*", "1 of 2 snippets are there"),
    ],
)
def test_a_procity_tree_that_lacks_a_file_is_not_another_data_set(tmp_path, lost, told):
    """Its key is that of the whole tree: what was decoded from a part of it would be taken for the whole."""
    root = procity_tree(tmp_path / "tree", "val")
    assert list(load(root, tmp_path / "cache", "val").flows) == ["exact", "dis"]
    for path in list(root.glob(lost)):
        path.unlink()
    with pytest.raises(FileNotFoundError, match=told):
        load(root, tmp_path / "cache", "val")


def test_damaged_flow_is_named(tmp_path):
    root = procity_tree(tmp_path / "tree")
    path = below(root, "flow")[2]
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ValueError, match=f"{path.name} is cut off or damaged"):
        load(root, tmp_path / "cache")
    (root / "manifest.json").write_text("{")
    with pytest.raises(ValueError, match="manifest.json is damaged; remove it"):
        load(root, tmp_path / "cache")


def test_a_file_replaced_by_one_of_the_same_size_is_decoded_again(tmp_path):
    root = cityscapes_tree(tmp_path / "tree", snippets=1)
    for path in below(root, "leftImg8bit_sequence"):
        cv2.imwrite(str(path.with_suffix(".bmp")), cv2.imread(str(path)))
        path.unlink()
    before = load(root, tmp_path / "cache")
    path = sorted(root.rglob("*.bmp"))[0]
    size = path.stat().st_size
    cv2.imwrite(str(path), np.full((32, 64, 3), 9, np.uint8))
    os.utime(path, ns=(1, 1))
    after = load(root, tmp_path / "cache")
    assert path.stat().st_size == size and after.key == before.key, "keys of committed rows count names and sizes"
    assert (after.frames[0, 0] == 9).all() and (after.frames[0, 1:] == before.frames[0, 1:]).all()


def test_camvid_by_the_numbers_in_its_names(tmp_path):
    root = camvid_tree(tmp_path / "camvid", val=12)
    for split in ("val", "valannot"):
        for path in sorted((root / split).iterdir()):
            path.rename(path.with_name(f"s_{int(path.stem[2:])}.png"))
    clips, line = said(root, tmp_path, "val", "camvid")
    frames = [cv2.imread(str(root / f"val/s_{i}.png"))[..., ::-1] for i in range(12)]
    small = [cv2.resize(frame, SIZE, interpolation=cv2.INTER_AREA).transpose(2, 0, 1) for frame in frames]
    assert (clips.frames[0] == np.stack(small)).all(), "s_10 comes after s_9"
    assert line == "camvid val: 12 of 101 frames"
    shutil.copy(root / "valannot/s_3.png", root / "valannot/s_99.png")
    assert "left out: 1 label without frames (s_99)" in said(root, tmp_path, "val", "camvid")[1]


@pytest.mark.parametrize("twin", ["s_00002.PNG", "s_2.png", "more/s_00002.png", "s_00002.jpg"])
@pytest.mark.parametrize("folder", ["val", "valannot"])
def test_camvid_names_that_sort_as_equal(tmp_path, folder, twin):
    root = camvid_tree(tmp_path / "camvid", val=5)
    (root / folder / twin).parent.mkdir(exist_ok=True)
    shutil.copy(root / folder / "s_00002.png", root / folder / twin)
    with pytest.raises(ValueError, match="belong to the same frame, or their names sort as equal") as error:
        data.load_clips("camvid", root, "val", SIZE, tmp_path / "cache")
    assert twin in str(error.value) and "s_00002.png" in str(error.value)


def test_camvid_with_a_gap_is_no_clip(tmp_path):
    root = camvid_tree(tmp_path / "camvid", val=9)
    for folder in ("val", "valannot"):
        (root / folder / "s_00004.png").unlink()
    with pytest.raises(FileNotFoundError, match="between s_00003 and s_00005 some are missing"):
        data.load_clips("camvid", root, "val", SIZE, tmp_path / "cache")
    assert len(data.load_clips("camvid", root, "train", SIZE, tmp_path / "cache")) == 3, "stills are no clip"


def test_camvid_labels(tmp_path):
    from tcseg.data.clip_files import read_labels

    path = tmp_path / "s_L.png"
    write(path, np.array([[0, 10, 11, 255]], np.uint8))
    assert read_labels(path, "camvid").tolist() == [[0, 10, IGNORE, IGNORE]]
    write(path, np.array([[0, 12, 31]], np.uint8))
    with pytest.raises(ValueError, match="s_L.png contains label 12, 31, outside CamVid's table"):
        read_labels(path, "camvid")
    root = camvid_tree(tmp_path / "camvid")
    for label in (root / "trainannot").iterdir():
        label.rename(label.with_name(f"{label.stem}_L.png"))
    with pytest.raises(FileNotFoundError, match="original colour labels: get the SegNet split"):
        data.load_clips("camvid", root, "train", SIZE, tmp_path / "cache")
