"""`tcseg data check`: whole, a part, or damaged; each damage by name."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from trees import camvid_tree, cityscapes_tree, write
from typer.testing import CliRunner

from tcseg import procity
from tcseg.cli import app
from tcseg.data.integrity import names


def run(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["data", "check", *map(str, arguments)])
    assert result.exit_code == code, result.output + result.stderr
    return result.output


@pytest.fixture
def cityscapes(tmp_path: Path) -> Path:
    """Two whole snippets of Aachen, one of Frankfurt, with instanceIds and stills."""
    root = cityscapes_tree(tmp_path / "cityscapes", snippets=2, neighbours=0)
    rng = np.random.default_rng(2)
    for split, city, snippets in (("train", "aachen", 2), ("val", "frankfurt", 1)):
        for sequence in range(snippets):
            for t in range(30):
                stem = f"{city}_{sequence:06d}_{t:06d}"
                frame = rng.integers(0, 255, (32, 64, 3), np.uint8)
                write(root / "leftImg8bit_sequence" / split / city / f"{stem}_leftImg8bit.png", frame)
                if t == 19:
                    write(root / "leftImg8bit" / split / city / f"{stem}_leftImg8bit.png", frame)
            stem = f"{city}_{sequence:06d}_000019"
            ids = np.full((32, 64), 7, np.uint16)
            ids[:8], ids[0, 0], ids[20:, 20:30] = 23, 0, 26
            write(root / "gtFine" / split / city / f"{stem}_gtFine_labelIds.png", ids.astype(np.uint8))
            ids[20:, 20:25], ids[20:, 25:30] = 26000, 26001
            write(root / "gtFine" / split / city / f"{stem}_gtFine_instanceIds.png", ids)
    return root


@pytest.fixture
def camvid(tmp_path: Path) -> Path:
    return camvid_tree(tmp_path / "camvid", train=4, val=6)


# ------------------------------------------------------------------------------------------------ whole, or a part


def test_a_part_of_cityscapes_is_a_part(cityscapes: Path):
    text = run(cityscapes)
    assert text.splitlines() == [
        f"cityscapes ({cityscapes}): subset: 1 of 18 train cities (aachen), 2 snippets; 1 of 3 val cities (frankfurt), 1 snippet "
        "(99 files decoded)",
        "  train: 60 frames, 2 stills, 2 labels, 2 pairs, 1 city",
        "  val: 30 frames, 1 still, 1 label, 1 pair, 1 city",
    ]
    assert "only names and sizes checked" in run(cityscapes, "--quick")
    shutil.rmtree(cityscapes / "gtFine/train")
    shutil.rmtree(cityscapes / "leftImg8bit_sequence/train")
    shutil.rmtree(cityscapes / "leftImg8bit/train")
    assert "subset: 1 of 3 val cities (frankfurt), 1 snippet; no train (33 files decoded)" in run(cityscapes)


def test_labels_of_all_cities_and_frames_of_one(cityscapes: Path):
    """What comes of unpacking gtFine whole, and of 324 GB of frames a city: no fault."""
    for city in ("ulm", "jena"):
        cityscapes_tree(cityscapes, city=city)
        shutil.rmtree(cityscapes / "leftImg8bit_sequence/train" / city)
        for path in (cityscapes / "gtFine/train" / city).iterdir():
            shutil.copy(path, path.with_name(path.name.replace("labelIds", "instanceIds")))
    text = run(cityscapes)
    assert "subset: 1 of 18 train cities (aachen), 2 snippets" in text
    assert "note: train: the labels of 2 cities have no frames (jena, ulm)" in text


def test_a_window_around_each_label_is_a_part_too(cityscapes: Path):
    for path in (cityscapes / "leftImg8bit_sequence/train/aachen").iterdir():
        if not 17 <= int(path.stem.split("_")[2]) <= 21:
            path.unlink()
    assert "note: train: each snippet has the frames -2..+2 relative to the annotated one" in run(cityscapes)
    (cityscapes / "leftImg8bit_sequence/train/aachen/aachen_000001_000021_leftImg8bit.png").unlink()
    assert "aachen_000001_000019: 1 of 5 frames around" in run(cityscapes, code=1)


def test_the_published_numbers_make_it_complete(cityscapes: Path, camvid: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(names, "CITIES", {"train": {"aachen": 2}, "val": {"frankfurt": 1}, "test": {}})
    monkeypatch.setattr(names, "CAMVID_FRAMES", {"train": 4, "val": 6, "test": 9})
    assert f"cityscapes ({cityscapes}): complete" in run(cityscapes)
    assert f"camvid ({camvid}): complete (20 files decoded)" in run(camvid)
    monkeypatch.setattr(names, "CAMVID_FRAMES", {"train": 367, "val": 101, "test": 9})
    assert "subset: 4 of 367 train frames; 6 of 101 val frames" in run(camvid)
    monkeypatch.setattr(names, "CITIES", {"train": {"aachen": 5}, "val": {"frankfurt": 1}, "test": {}})
    assert "subset: 2 of 5 train snippets (aachen 2 of 5)" in run(cityscapes)


def test_hidden_files_links_and_capitals_are_no_fault(cityscapes: Path, tmp_path: Path):
    before = run(cityscapes).replace(str(cityscapes), "ROOT")
    for place in ("leftImg8bit_sequence/train", "gtFine/val"):
        city = next((cityscapes / place).iterdir())
        first = next(city.iterdir())
        (city / f"._{first.name}").write_bytes(b"rubbish")
        (cityscapes / place / "__MACOSX").mkdir()
        (cityscapes / place / "__MACOSX" / first.name).write_bytes(b"rubbish")
        first.rename(first.with_suffix(".PNG"))
        city.rename(tmp_path / city.name)
        city.symlink_to(tmp_path / city.name, target_is_directory=True)
    (tmp_path / "linked").symlink_to(cityscapes, target_is_directory=True)
    assert run(tmp_path / "linked").replace(str(tmp_path / "linked"), "ROOT") == before


@pytest.mark.slow
def test_procity(tmp_path: Path):
    root = procity.generate(tmp_path / "procity", (64, 32), 1, 1, 0, 1, workers=1, progress=False)
    assert f"procity ({root}): complete" in (text := run(root)) and "val: 30 frames, 1 still, 30 labels, 30 pairs" in text
    frame, label = (sorted(root.glob(f"{place}/val/*/*.png"))[5] for place in ("leftImg8bit_sequence", "gtFine"))
    frame.write_bytes(frame.read_bytes()[:200])
    label.write_bytes(b"")
    lost = next(root.glob("flow/val/*/*.png"))
    lost.unlink()
    shutil.copy(next(root.glob("leftImg8bit_sequence/train/*/*.png")), root / "leftImg8bit_sequence/train/more.png")
    text = run(root, code=1)
    assert "5 problems" in text and "more.png: the manifest of the data set does not list this file" in text
    for path in (frame, label):
        assert f"{path.relative_to(root).as_posix()}: damaged" in text
    assert f"{lost.relative_to(root).as_posix()}: missing" in text
    assert f"{lost.name}: missing" in run(root, "--quick", code=1)
    (root / "leftImg8bit_sequence/train/more.png").unlink()
    assert "complete" in run(root, "--mend")
    assert f"procity ({root}): complete" in run(tmp_path)


# ------------------------------------------------------------------------------------------------ damage, by name


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-25])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x11
    path.write_bytes(data)


def link_to_nothing(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere.png")


DAMAGE = {
    "cut": cut,
    "flip": flip,
    "empty": lambda path: path.write_bytes(b""),
    "web page": lambda path: path.write_text("<html>404</html>"),
    "link": link_to_nothing,
    "size": lambda path: write(path, cv2.imread(str(path), cv2.IMREAD_UNCHANGED)[:16]),
    "gone": lambda path: path.unlink(),
}
SEEN_QUICKLY = ("empty", "link", "size", "gone")


@pytest.mark.parametrize("kind", DAMAGE)
@pytest.mark.parametrize("place", ["train/s_00002.png", "trainannot/s_00001.png", "val/s_00003.png", "valannot/s_00000.png"])
def test_damage_of_camvid(camvid: Path, place: str, kind: str):
    DAMAGE[kind](camvid / place)
    text = run(camvid, code=1)
    assert Path(place).name in text and "problem" in text and "complete" not in text
    assert kind in ("gone", "size") or "1 problem," in text, text
    if kind in SEEN_QUICKLY:
        assert Path(place).name in run(camvid, "--quick", code=1)


@pytest.mark.parametrize("kind", DAMAGE)
@pytest.mark.parametrize(
    "place",
    [
        "leftImg8bit_sequence/train/aachen/aachen_000000_000003_leftImg8bit.png",
        "leftImg8bit_sequence/val/frankfurt/frankfurt_000000_000019_leftImg8bit.png",
        "gtFine/train/aachen/aachen_000001_000019_gtFine_labelIds.png",
        "gtFine/train/aachen/aachen_000001_000019_gtFine_instanceIds.png",
    ],
)
def test_damage_of_cityscapes(cityscapes: Path, place: str, kind: str):
    DAMAGE[kind](cityscapes / place)
    text = run(cityscapes, code=1)
    name = place.rpartition("/")[2].split("_left")[0].split("_gtFine")[0]
    assert "problem" in text and (name in text or name.rpartition("_")[0] in text), text


LABELS = {
    "void": (np.full((36, 48), 11, np.uint8), "every pixel of the label is void"),
    "another table": (np.full((36, 48), 26, np.uint8), "contains label 26, outside CamVid's table"),
    "colours": (np.zeros((36, 48, 3), np.uint8), "holds colours"),
    "instances": (np.full((36, 48), 26001, np.uint16), "holds values in 26001..26001"),
}


@pytest.mark.parametrize("kind", LABELS)
def test_labels_that_cannot_be(camvid: Path, kind: str):
    array, told = LABELS[kind]
    write(camvid / "valannot/s_00002.png", array)
    text = run(camvid, code=1)
    assert "s_00002.png" in text and told in text


def test_both_sides_without_the_other(camvid: Path, cityscapes: Path):
    (camvid / "train/s_00001.png").unlink()
    (camvid / "trainannot/s_00002.png").unlink()
    text = run(camvid, code=1)
    assert "trainannot/s_00001.png: the label has no frame" in text
    assert "train/s_00002.png: the frame has no label" in text and "train: 3 frames, 3 labels, 2 pairs" in text
    for path in [*(cityscapes / "leftImg8bit_sequence/train/aachen").glob("*_000001_*"),
                 *(cityscapes / "leftImg8bit/train/aachen").glob("*_000001_*")]:  # fmt: skip
        path.unlink()
    shutil.rmtree(cityscapes / "gtFine/val/frankfurt")
    text = run(cityscapes, code=1)
    assert "aachen_000001_000019_gtFine_labelIds.png: the label has no frame" in text
    assert "val: 31 frames but no labels; check that gtFine is unpacked" in text


def test_frames_of_a_city_without_labels(cityscapes: Path):
    cityscapes_tree(cityscapes, city="ulm")
    shutil.rmtree(cityscapes / "gtFine/train/ulm")
    for path in (cityscapes / "gtFine/train/aachen").glob("aachen_000001*"):
        path.unlink()
    text = run(cityscapes, code=1)
    assert "train: city ulm has 10 frames without a label" in text
    assert "train: aachen_000001 has 31 frames without a label" in text


def test_every_second_file(cityscapes: Path):
    for path in sorted((cityscapes / "leftImg8bit_sequence/train/aachen").iterdir())[::2]:
        path.unlink()
    text = run(cityscapes, code=1)
    assert "2 problems" in text and "15 of 30 frames around the annotated frame are missing (first: aachen_000000_000000)" in text


def test_instances(cityscapes: Path):
    path = cityscapes / "gtFine/train/aachen/aachen_000001_000019_gtFine_instanceIds.png"
    write(path, (cv2.imread(str(path), cv2.IMREAD_UNCHANGED) % 256).astype(np.uint8))
    assert "another class than in aachen_000001_000019_gtFine_labelIds.png (its values fit into 8 bits" in run(cityscapes, code=1)
    path.unlink()
    assert "train: 1 of 2 labels have no instanceIds" in run(cityscapes, code=1)


def test_files_twice(cityscapes: Path, camvid: Path):
    label = next((cityscapes / "gtFine/train").rglob("*labelIds.png"))
    (cityscapes / "gtFine/train/copy").mkdir()
    shutil.copy(label, cityscapes / "gtFine/train/copy" / label.name)
    text = run(cityscapes, code=1)
    assert f"{label} and {cityscapes / 'gtFine/train/copy' / label.name} belong to the same frame" in text
    shutil.copy(camvid / "val/s_00003.png", camvid / "val/s_3.png")
    assert "s_00003.png and " in (text := run(camvid, code=1)) and "s_3.png have the same name, or their names sort" in text


def test_one_frame_in_train_and_in_val(cityscapes: Path, camvid: Path):
    assert "of another split" not in run(camvid), "names may be the same"
    shutil.copy(camvid / "train/s_00003.png", camvid / "val/s_00001.png")
    assert f"note: 1 frame identical to a frame of another split (first: {camvid / 'val/s_00001.png'}" in run(camvid)
    for place in ("gtFine", "leftImg8bit", "leftImg8bit_sequence"):
        shutil.copytree(cityscapes / place / "train/aachen", cityscapes / place / "val/aachen")
    text = run(cityscapes)
    assert "note: 62 frames identical to a frame of another split" in text
    assert "note: val: aachen is not in the val split of Cityscapes" in text


def test_train_ids_under_the_name_of_ids(cityscapes: Path):
    for path in (cityscapes / "gtFine/train/aachen").glob("*labelIds.png"):
        write(path, np.repeat(np.arange(16, dtype=np.uint8), 128).reshape(32, 64))
        path.with_name(path.name.replace("labelIds", "instanceIds")).unlink()
    assert "name them _gtFine_labelTrainIds.png" in run(cityscapes, code=1)


def test_what_is_odd_and_no_fault(camvid: Path):
    shutil.copy(camvid / "val/s_00001.png", camvid / "val/s_00002.png")
    write(camvid / "trainannot/s_00000.png", np.full((36, 48), 3, np.uint8))
    for name in ("train", "trainannot"):
        write(camvid / name / "s_00001.png", np.zeros((18, 24), np.uint8))
    text = run(camvid)
    assert "1 frame identical to another" in text and "2 labels with only one class" in text
    assert "1 frame with another size (first: " in text
    assert "s_00001.png: the frame is 24x18, but the other frames of train are 48x36" in text


def test_a_gap_in_a_clip(camvid: Path):
    for name in ("val", "valannot"):
        (camvid / name / "s_00003.png").unlink()
    assert "val: frames are missing between s_00002 and s_00004" in run(camvid, code=1)


def test_twenty_by_name_then_a_count(camvid: Path):
    for path in (camvid_tree(camvid, 30, 6) / "trainannot").iterdir():
        cut(path)
    text = run(camvid, code=1)
    assert "30 problems, subset:" in text and text.count("is cut off") == 20 and text.endswith("  ... and 10 more\n")


def test_links_that_lead_nowhere(cityscapes: Path):
    folder = cityscapes / "gtFine/val"
    (folder / "lindau").symlink_to(folder / "absent")
    (folder / "itself").symlink_to(folder / "itself")
    (folder / "above").symlink_to(cityscapes, target_is_directory=True)
    text = run(cityscapes, code=1)
    assert "2 problems" in text and all(f"{folder / name}: the link is broken" in text for name in ("lindau", "itself"))


def test_the_wrong_folder_is_named(camvid: Path, tmp_path: Path, data_root: Path, monkeypatch: pytest.MonkeyPatch):
    for folder, told in (
        (tmp_path / "absent", "is not a folder"),
        (camvid / "train", f"part of the camvid data set {camvid}, so pass that"),
        (data_root, "does not have the layout of a known data set"),
    ):
        result = CliRunner().invoke(app, ["data", "check", str(folder)])
        assert result.exit_code == 2 and told in result.stderr
    monkeypatch.setenv("TCSEG_DATA", str(camvid))
    result = CliRunner().invoke(app, ["data", "check"])
    assert result.exit_code == 2 and f"TCSEG_DATA is '{camvid}': {camvid} is the data set camvid itself" in result.stderr
    assert "camvid (" in run(tmp_path), "a folder of data sets"
