"""Which files count, and how much of a published split they are."""

import os
import shutil

import pytest
from trees import camvid_tree, cityscapes_tree

from tcseg.data.splits import CITIES, Coverage, cityscapes_coverage, fingerprint, gaps, index_cityscapes


def test_the_published_splits():
    assert [sum(CITIES[split].values()) for split in ("train", "val", "test")] == [2975, 500, 1525]
    assert [len(CITIES[split]) for split in ("train", "val", "test")] == [18, 3, 6]


def changes(root):
    """Changes of a tree, by name: each must be seen."""
    frames = sorted(root.rglob("*.png"))
    one = frames[0]

    def rewrite():
        data = one.read_bytes()
        one.write_bytes(data[:-20] + bytes(20))
        os.utime(one, ns=(5, 5))

    return {
        "content of the same size": rewrite,
        "another size": lambda: one.write_bytes(one.read_bytes() + b"x"),
        "a file less": one.unlink,
        "another name": lambda: one.rename(one.with_name("new.png")),
        "a file more": lambda: shutil.copy(one, one.with_name("more.png")),
        "a JPEG more": lambda: shutil.copy(one, one.with_name("more.jpg")),
        "a suffix in capitals": lambda: one.rename(one.with_suffix(".PNG")),
        "a link to nothing": lambda: (one.unlink(), one.symlink_to(root / "nowhere.png")),
    }


KINDS = "content of the same size;another size;a file less;another name;a file more;a JPEG more;a suffix in capitals"


@pytest.mark.parametrize("linked", ["nothing", "root", "city", "split", "files"])
@pytest.mark.parametrize("kind", [*KINDS.split(";"), "a link to nothing"])
def test_a_changed_data_set_has_another_fingerprint(tmp_path, kind, linked):
    disk = cityscapes_tree(tmp_path / "disk", snippets=1)
    root = tmp_path / "root"
    if linked in ("nothing", "root"):
        root = disk
        if linked == "root":
            root = tmp_path / "root"
            root.symlink_to(disk, target_is_directory=True)
    for path in sorted(disk.rglob("*")) if root != disk and linked != "root" else []:
        depth = {"split": 2, "city": 3, "files": 4}[linked]
        place = path.relative_to(disk)
        if len(place.parts) == depth:
            (root / place).parent.mkdir(parents=True, exist_ok=True)
            (root / place).symlink_to(path)
    before = fingerprint(root)
    assert before == fingerprint(root) != fingerprint(tmp_path / "absent")
    changes(disk if linked != "files" or kind in ("content of the same size", "another size") else root)[kind]()
    assert fingerprint(root) != before


def test_what_no_loader_reads_changes_no_fingerprint(tmp_path):
    root = camvid_tree(tmp_path / "camvid", 1, 1)
    before = fingerprint(root)
    for name in ("train/._s_00000.png", "train/.DS_Store", "__MACOSX/s.png", "train/notes.txt"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(b"x")
    assert fingerprint(root) == before


def test_an_index_names_what_it_does_not_take(tmp_path):
    root = cityscapes_tree(tmp_path / "tree")
    (root / "gtFine/train/aachen/aachen_000000_000019_gtFine_color.png").touch()
    (root / "gtFine/train/aachen/thumb.png").touch()
    index = index_cityscapes(root / "gtFine/train", "_gtFine_labelIds")
    assert len(index) == 2 and [path.name for path in index.strangers] == ["thumb.png"]
    assert list(index.files) == ["aachen_000000", "aachen_000001"] and not index_cityscapes(root / "absent", "x")


def test_gaps():
    names = [f"s_{number:03d}" for number in (0, 2, 4, 8, 10)]
    assert gaps(names) == [("s_004", "s_008")]
    assert gaps(names[:3]) == gaps([]) == gaps(["a", "b", "c", "d"]) == []
    assert gaps(["a_1", "a_2", "a_3", "b_4", "b_5"]) == [("a_3", "b_4")]


def test_coverage_in_words():
    whole = Coverage("train", "snippet", 2975, 2975, tuple(sorted(CITIES["train"])), 18)
    assert whole.whole and str(whole) == "train: 2975 of 2975 snippets, 18 of 18 cities"
    part = cityscapes_coverage("val", ["lindau_000000_000019"], ["3 labels without frames"])
    assert not part.whole
    assert str(part) == "val: 1 of 500 snippets, 1 of 3 cities (lindau); left out: 3 labels without frames"
    own = cityscapes_coverage("val", ["home_000000_000019"], [])
    assert own.whole and str(own) == "val: 1 snippet", "data of one's own have no published number"
    many = cityscapes_coverage("train", [f"{city}_000000_000019" for city in list(CITIES["train"])[:6]], [])
    assert "6 of 18 cities (aachen, bochum, bremen and 3 more)" in str(many)
