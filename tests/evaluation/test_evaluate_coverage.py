"""No silent number in `tcseg evaluate`: beside each stands over what it is, and what is missing is named."""

from __future__ import annotations

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from command import run

from tcseg.errors import TcsegError
from tcseg.evaluation.label_map_files import evaluate_files
from tcseg.evaluation.label_map_tables import as_text
from tcseg.labels import IGNORE, train_ids_to_ids
from tcseg.models.registry import shipped

HEIGHT, WIDTH = 32, 64


def put(path: Path, image: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)
    return path


def street(root: Path, clips: int = 3, frames: int = 4, cities: int = 1, noise: float = 0.05) -> dict[str, Path]:
    """Clips in Cityscapes' layout: a car moves a pixel a frame over road and sky; answers with some pixels wrong."""
    rng = np.random.default_rng(0)
    texture = rng.integers(0, 99, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    for clip in range(clips):
        city = f"city{'abc'[clip % cities]}"
        for t in range(frames):
            name = f"{city}/{city}_{clip:06}_{t:06}"
            frame, truth = texture.copy(), np.full((HEIGHT, WIDTH), 10, np.uint8)
            truth[16:] = 0
            frame[12:24, 5 + t : 17 + t], truth[12:24, 5 + t : 17 + t] = 200, 13
            wrong = rng.random(truth.shape) < noise * (1 + clip % 4)
            answer = np.where(wrong, rng.choice([0, 8, 10, 13, 2], truth.shape), truth).astype(np.uint8)
            put(root / "frames" / f"{name}_leftImg8bit.png", frame)
            put(root / "labels" / f"{name}_gtFine_labelIds.png", train_ids_to_ids(truth))
            put(root / "predictions" / f"{name}.png", train_ids_to_ids(answer))
    return {kind: root / kind for kind in ("predictions", "frames", "labels")}


def evaluated(folders: dict[str, Path], **more):
    return evaluate_files(**folders, workers=1, **more)


def row(table: pd.DataFrame, metric: str) -> pd.Series:
    return table.set_index("metric").loc[metric]


# ------------------------------------------------------------------------------------------------ coverage


def test_beside_each_number_stands_over_what_it_is(tmp_path):
    table, record = evaluated(street(tmp_path))
    assert row(table, "miou")[["frames", "units"]].tolist() == [12, 3]
    assert row(table, "tc")[["frames", "units"]].tolist() == row(table, "flicker")[["frames", "units"]].tolist() == [9, 3]
    assert row(table, "tc_ceiling")["frames"] == 9 and row(table, "changed")["void"] == 0
    assert record["missing"] == [] and record["coverage"]["miou"]["frames"] == 12
    assert record["coverage"]["iiou"] == {"frames": 0, "units": 0, "void": None, "why": "the labels have no instanceIds files"}
    assert list(table["metric"])[0] == "changed"
    text = as_text(table, record)
    assert "ids (the values fit only cityscapes's ids); 12 frames, 0.0% void" in text and "ids (stated by their file names)" in text


def test_void_is_told(tmp_path):
    folders = street(tmp_path)
    for path in folders["labels"].rglob("*.png"):
        ids = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        ids[:, :16] = 0
        put(path, ids)
    table, record = evaluated(folders)
    assert row(table, "miou")["void"] == pytest.approx(0.25) and row(table, "changed")["void"] == 0
    assert record["data"]["labels"]["void"] == pytest.approx(0.25)
    for path in folders["predictions"].rglob("*.png"):
        put(path, np.zeros((HEIGHT, WIDTH), np.uint8) + 26 * (path.name.endswith("0.png")))
    assert evaluated(folders)[1]["data"]["predictions"]["void"] > 0.5


def lose_a_city(folders):
    for path in (folders["labels"] / "citya").rglob("*"):
        path.unlink()


def lose_every_second(folders):
    for path in sorted(folders["labels"].rglob("*.png"))[::2]:
        path.unlink()


def lose_instances(folders):
    for path in sorted(folders["labels"].rglob("*.png"))[1:]:
        put(path.with_name(path.name.replace("labelIds", "instanceIds")), np.zeros((HEIGHT, WIDTH), np.uint16))


@pytest.mark.parametrize(
    ("lose", "told"),
    [
        (lose_a_city, "2 of 3 clips have no label map"),
        (lose_every_second, "6 of 12 frames in clips with labels have none"),
        (lose_instances, "1 of 12 label maps have no instanceIds file"),
    ],
)
def test_what_is_missing_is_named_and_strict_refuses_it(tmp_path, lose, told):
    folders = street(tmp_path, cities=2)
    lose(folders)
    table, record = evaluated(folders)
    assert any(told in problem for problem in record["missing"]) and told in as_text(table, record)
    arguments = [text for name, path in folders.items() for text in (f"--{name}", path)]
    assert told in run("evaluate", *arguments, "--strict", code=2).stderr


def test_instances_of_8_bits_are_an_error(tmp_path):
    folders = street(tmp_path)
    for path in list(folders["labels"].rglob("*.png")):
        put(path.with_name(path.name.replace("labelIds", "instanceIds")), np.zeros((HEIGHT, WIDTH), np.uint8))
    with pytest.raises(TcsegError, match="_instanceIds.png is an 8-bit image; instanceIds are 16-bit"):
        evaluated(folders)


def test_the_ceiling_is_of_exactly_the_pairs_of_tc(tmp_path):
    folders = street(tmp_path)
    sorted(folders["labels"].rglob("*.png"))[0].unlink()
    table, record = evaluated(folders)
    top = row(table, "tc_ceiling")
    assert pd.isna(top["value"]) and top["why"] == "8 of 9 pairs have labels on both frames"
    assert record["metrics"]["tc_ceiling"] == {"dis": None}


@pytest.mark.parametrize("kinds", [("labels", "no"), ("one", "frame"), ("void", "labels")])
def test_a_metric_is_there_for_all_of_its_kind_or_none(tmp_path, kinds):
    folders = street(tmp_path, frames=20)
    paths = sorted(folders["labels"].rglob("*.png"))
    if kinds[0] == "labels":
        del folders["labels"]
    elif kinds[0] == "one":
        for path in paths:
            if "_000010_" not in path.name:
                path.unlink()
    else:
        for path in paths:
            put(path, np.zeros((HEIGHT, WIDTH), np.uint8))
    table, record = evaluated(folders)
    assert any("entirely void" in problem for problem in record["missing"]) == (kinds[0] == "void")
    there = {name: not pd.isna(value) for name, value in table.set_index("metric")["value"].items()}
    for kind in (("miou", "miou_category", "miou_boundary"), ("vc8", "vc8_right", "vc16", "vc16_right", "flicker"),
                 ("tc", "changed", "tc_gap5", "tc_unmasked", "etc_compat"), ("tc_boundary", "tc_interior")):  # fmt: skip
        assert len({there[name] for name in kind}) == 1, kind
    assert there["vc8"] <= there["miou"] and table[table["value"].isna()]["why"].notna().all()


# ------------------------------------------------------------------------------------------------ units


def test_clips_in_which_nothing_was_counted_are_no_units(tmp_path):
    few, _ = evaluated(street(tmp_path / "few"))
    folders = street(tmp_path / "many", clips=9)
    for path in folders["labels"].rglob("*.png"):
        if int(path.name.split("_")[1]) >= 3:
            path.unlink()
    many, record = evaluated(folders)
    for metric in ("miou", "miou_boundary"):
        assert row(many, metric)[["value", "ci_low", "ci_high"]].tolist() == pytest.approx(
            row(few, metric)[["value", "ci_low", "ci_high"]].tolist(), abs=1e-12
        )
        assert row(many, metric)["units"] == 3 and row(many, "changed")["units"] == 9
    assert record["missing"]


def test_no_interval_over_one_unit(tmp_path):
    folders = street(tmp_path, clips=1, frames=4)
    table, record = evaluated(folders)
    assert table["ci_low"].isna().all() and "95 %" not in as_text(table, record)
    two = street(tmp_path / "b", clips=2)
    for path in sorted(two["labels"].rglob("*.png"))[4:]:
        path.unlink()
    table, _ = evaluated(two)
    assert pd.isna(row(table, "miou")["ci_low"]) and not pd.isna(row(table, "changed")["ci_low"])


def test_clips_of_few_cities(tmp_path):
    folders = street(tmp_path, clips=6, cities=3)
    clips, cities = evaluated(folders), evaluated(folders, unit="city")
    assert row(clips[0], "miou")["units"] == 6 and row(cities[0], "miou")["units"] == 3
    assert row(clips[0], "miou")["value"] == row(cities[0], "miou")["value"]
    assert "these 3 cities" in as_text(*clips) and "--unit city" in as_text(*clips)
    assert "these 3 cities" not in as_text(*cities)
    with pytest.raises(TcsegError, match="unit is 'frame'; it must be one of clip, city"):
        evaluated(folders, unit="frame")


# ------------------------------------------------------------------------------------------------ without labels


def test_a_steadier_network_is_steadier_without_labels_too(tmp_path):
    """In TC, a class on a few pixels that comes and goes has the vote of a whole road."""
    better, worse = street(tmp_path / "a", noise=0.0), street(tmp_path / "b", noise=0.03)
    for t, path in enumerate(sorted(better["predictions"].rglob("*.png"))):
        ids = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        for k, value in enumerate((33, 32, 31, 28)):  # four classes, two pixels each, here and there
            ids[2 + k, 3 + 7 * (t % 2) : 5 + 7 * (t % 2)] = value
        put(path, ids)
    found = {}
    for name, folders in (("better", better), ("worse", worse)):
        del folders["labels"]
        table, record = evaluated(folders)
        found[name] = {metric: row(table, metric)["value"] for metric in ("changed", "tc")}
        assert table.iloc[0]["metric"] == "changed" and "TC may rank two networks differently" in as_text(table, record)
    assert found["better"]["changed"] < found["worse"]["changed"]
    assert found["better"]["tc"] < found["worse"]["tc"]
    assert "<0.1%" in as_text(*evaluated(better)) or "0.1%" in as_text(*evaluated(better))


def test_stills_that_do_not_say_so_are_noticed(tmp_path):
    for t in range(6):
        rng = np.random.default_rng(t)
        frame = cv2.GaussianBlur(rng.integers(0, 255, (96, 128, 3), dtype=np.uint8), (0, 0), 3)
        put(tmp_path / "frames" / f"{t:03}.png", cv2.normalize(frame, None, 0, 255, cv2.NORM_MINMAX))
        put(tmp_path / "predictions" / f"{t:03}.png", np.full((96, 128), 26, np.uint8))
    table, record = evaluate_files(tmp_path / "predictions", tmp_path / "frames", layout="folder", workers=1)
    assert "If the frames are stills, pass --stills" in as_text(table, record)


def test_stills_have_accuracy_alone(tmp_path):
    from tcseg.evaluation.label_map_layouts import Pacing

    table, record = evaluated(street(tmp_path, frames=10), pacing=Pacing(stills=True))
    assert set(table[table["value"].notna()]["metric"]) == {"miou", "miou_category", "miou_boundary"}
    assert row(table, "tc")["why"] == row(table, "vc8")["why"] == "the frames are stills"
    folders = street(tmp_path)
    del folders["labels"]
    with pytest.raises(TcsegError, match="nothing to measure .*--stills"):
        evaluated(folders, pacing=Pacing(stills=True))


# ------------------------------------------------------------------------------------------------ the product's own output


@pytest.mark.parametrize("layout", ["folder", "cityscapes"])
def test_what_segment_writes_is_scored_as_it_is(tmp_path, layout):
    """`segment --labels` writes trainIds; read as ids they had 0.1 % mIoU, and nobody said a word."""
    from tcseg.evaluation.split_scores import predict
    from tcseg.video import render

    folders = street(tmp_path, clips=1, frames=3)
    frames, network = folders["frames"] / "citya", shipped("student")
    render.segment(frames, None, network, size=(WIDTH, HEIGHT), labels=tmp_path / "own", progress=False)
    assert json.loads((tmp_path / "own" / "meta.json").read_text())["values"] == "trainIds"
    pictures = np.stack([cv2.imread(str(p))[..., ::-1].transpose(2, 0, 1) for p in sorted(frames.glob("*.png"))])
    maps = predict(network, pictures)
    truth = np.full((HEIGHT, WIDTH), IGNORE, np.uint8)
    truth[:, : WIDTH // 2] = maps[0][:, : WIDTH // 2]  # half of it agrees, half is void: mIoU is 1
    for path in sorted(frames.glob("*.png")):
        name = path.name.replace("leftImg8bit", "gtFine_labelIds") if layout == "cityscapes" else path.name
        put(tmp_path / "truth" / name, train_ids_to_ids(truth))
    table, record = evaluate_files(tmp_path / "own", frames, tmp_path / "truth", layout, workers=1)
    assert record["data"]["predictions"]["because"] == "stated by their meta.json"
    # truth of the first frame is held against all three
    expected = np.mean([(m == truth)[truth != IGNORE].mean() for m in maps])
    assert record["metrics"]["pixel_accuracy"] == pytest.approx(expected, abs=1e-5) and expected > 0.5


# ------------------------------------------------------------------------------------------------ --out


def test_out_is_tried_before_the_work(tmp_path):
    folders = street(tmp_path)
    arguments = [text for name, path in folders.items() for text in (f"--{name}", path)]
    (tmp_path / "file").write_text("")
    told = run("evaluate", *arguments, "--out", tmp_path / "file" / "x", code=2)
    assert "cannot be written" in told.stderr and "--out" in told.stderr and "miou" not in told.output
    if os.geteuid() == 0:
        return
    (tmp_path / "closed").mkdir(mode=0o500)
    assert "cannot be written" in run("evaluate", *arguments, "--out", tmp_path / "closed", code=2).stderr


def test_the_table_is_printed_before_it_is_written(tmp_path, monkeypatch):
    from tcseg.evaluation import label_map_tables

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(label_map_tables, "write", full)
    folders = street(tmp_path)
    arguments = [text for name, path in folders.items() for text in (f"--{name}", path)]
    told = run("evaluate", *arguments, "--workers", 1, "--out", tmp_path / "out", code=2)
    assert "miou" in told.stdout and "No space left" in told.stderr


def test_turned_pictures_are_turned_for_frames_and_maps(tmp_path):
    """A camera's EXIF orientation: the same numbers as of upright files."""
    from PIL import Image

    upright = street(tmp_path / "a", clips=1)
    expected, _ = evaluated(upright)
    turned = street(tmp_path / "b", clips=1)
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn clockwise
    for path in (tmp_path / "b").rglob("*.png"):
        Image.fromarray(np.rot90(np.asarray(Image.open(path)))).save(path, exif=exif)
    found, _ = evaluated(turned)
    pd.testing.assert_frame_equal(found, expected)


def test_labels_of_another_size_are_named(tmp_path):
    folders = street(tmp_path)
    path = sorted(folders["labels"].rglob("*.png"))[5]
    put(path, np.full((2 * HEIGHT, 2 * WIDTH), 7, np.uint8))
    with pytest.raises(TcsegError, match=f"{path.name} is 128x64, but its frame and prediction are 64x32"):
        evaluated(folders)


def test_a_damaged_frame_is_an_error_with_its_name(tmp_path):
    folders = street(tmp_path)
    path = sorted(folders["frames"].rglob("*.png"))[3]
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(TcsegError, match=path.name):
        evaluated(folders)


def test_two_that_write_one_file_at_once_both_leave_it_whole(tmp_path):
    """Each under a name of its own; they shared one, and the second to rename found nothing."""
    from concurrent.futures import ThreadPoolExecutor

    from tcseg.atomic_files import write_json, write_table

    table = pd.DataFrame({"value": range(2000)})
    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(write_table, tmp_path / "metrics.csv", table) for _ in range(40)]:
            done.result()
        for done in [pool.submit(write_json, tmp_path / "metrics.json", list(range(2000))) for _ in range(40)]:
            done.result()
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "metrics.csv"), table)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.csv", "metrics.json"]
    with pytest.raises(TypeError):
        write_json(tmp_path / "metrics.json", {("a", "b"): 1})
    assert len(json.loads((tmp_path / "metrics.json").read_text())) == 2000 and len(list(tmp_path.iterdir())) == 2
