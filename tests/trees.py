"""Small data sets on disk: in the layouts of Cityscapes and of CamVid, and folders of one's own."""

from pathlib import Path

import cv2
import numpy as np
from oracles import write_kitti


def write(path: Path, array: np.ndarray) -> None:
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


def camvid_tree(root, train=3, val=20):
    rng = np.random.default_rng(1)
    for split, count in (("train", train), ("val", val)):
        for i in range(count):
            write(root / split / f"s_{i:05d}.png", rng.integers(0, 255, (36, 48, 3), np.uint8))
            write(root / f"{split}annot" / f"s_{i:05d}.png", rng.integers(0, 12, (36, 48), np.uint8))
    return root


THREE = "classes:\n  - {name: road, color: [90, 90, 90]}\n  - car\n  - {name: rest, id: 7}\nignore: [9]\nmapping: {8: rest}\n"


def own_tree(root, clips=5, length=7, labelled=(3,), size=(64, 32)):
    """Moving blocks of three classes; `labelled` frames of each clip have a map (None = all)."""
    width, height = size
    rng = np.random.default_rng(2)
    (root / "labels").mkdir(parents=True, exist_ok=True)
    (root / "classes.yaml").write_text(THREE)
    for clip in range(clips):
        left = int(rng.integers(0, width // 2))
        for t in range(length):
            ids = np.full((height, width), 7, np.uint8)
            ids[height // 2 :] = 0
            ids[height // 3 : 2 * height // 3, left + t : left + t + 12] = 1
            ids[0, 0], ids[0, 1] = 9, 8
            frame = np.array([[90, 90, 90], [30, 200, 30], *[[0, 0, 0]] * 5, [220, 160, 120], [0, 0, 0], [0, 0, 0]], np.uint8)[ids]
            write(root / "frames" / f"c{clip}" / f"{t:04d}.png", frame + rng.integers(0, 20, frame.shape, np.uint8))
            if labelled is None or t in labelled:
                write(root / "labels" / f"c{clip}" / f"{t:04d}.png", ids)
    return root


def laid_out(camvid, root):
    """CamVid's files (train, trainannot, val, valannot) as a folder of one's own, by links."""
    from tcseg.labels import CAMVID

    for split in ("train", "val"):
        for kind, source in (("frames", split), ("labels", f"{split}annot")):
            (root / kind).mkdir(parents=True, exist_ok=True)
            (root / kind / split).symlink_to((camvid / source).absolute())
    rows = "".join(
        f"  - {{name: {name}, color: {color.tolist()}}}\n" for name, color in zip(CAMVID.classes, CAMVID.colors, strict=True)
    )
    (root / "classes.yaml").write_text(f"classes:\n{rows}ignore: [11]\n")
    (root / "split.yaml").write_text("train: [train]\nval: [val]\nstills: [train]\n")
    return root
