"""Windows of a folder of one's own: which frames, which labels, what flow; and CamVid laid out so is CamVid."""

import cv2
import numpy as np
import pytest
import torch
from trees import camvid_tree, laid_out, own_tree, write

from tcseg.data import clips as named_clips
from tcseg.data.clips import annotated_frame
from tcseg.data.folders import find_dataset
from tcseg.data.own import lookup, open_folder
from tcseg.data.own.films import Film, frame_count, frame_rate
from tcseg.errors import TcsegError
from tcseg.evaluation import split_scores
from tcseg.labels import IGNORE
from tcseg.models import registry
from tcseg.training import loop
from tcseg.training.recipe import Recipe

SIZE = (64, 32)


def load(tree, split, **options):
    return lookup.load_clips(str(tree), None, split, options.pop("size", SIZE), tree.parent / "cache", **options)


def test_a_training_window_has_the_label_in_the_middle(tmp_path):
    tree = own_tree(tmp_path / "mine", labelled=(0, 3))
    clips = load(tree, "train")
    assert clips.names[:2] == ["c0+000000", "c0+000003"] and clips.frames.shape == (8, 5, 3, 32, 64)
    assert annotated_frame(clips) == 2 and clips.annotated.sum() == 8 and clips.label_set.classes == ("road", "car", "rest")
    frame = cv2.imread(str(tree / "frames/c0/0004.png"))[..., ::-1].transpose(2, 0, 1)
    assert np.array_equal(clips.frames[1, 3], frame)
    ids = cv2.imread(str(tree / "labels/c0/0003.png"), 0)
    assert set(np.unique(ids)) == {0, 1, 7, 8, 9}
    assert np.array_equal(clips.labels[1, 2], np.select([ids == 0, ids == 1, ids >= 9], [0, 1, IGNORE], 2))
    assert (clips.labels[:, [0, 1, 3, 4]] == IGNORE).all()


def test_at_the_end_of_a_clip_nothing_is_visible(tmp_path):
    clips = load(own_tree(tmp_path / "mine", labelled=(0,)), "train")
    assert np.array_equal(clips.frames[0, 0], clips.frames[0, 2]) and not np.array_equal(clips.frames[0, 2], clips.frames[0, 3])
    assert not clips.visible[:, :2].any() and not clips.backward[1][:, :2].any() and clips.visible[:, 2:].mean() > 0.5


def test_stills_are_windows_of_one_frame_and_beside_video_show_no_motion(tmp_path):
    tree = own_tree(tmp_path / "mine", labelled=(2, 3))
    (tree / "split.yaml").write_text("train: [c0, c1]\nval: [c2]\nstills: [c0, c1]\n")
    assert load(tree, "train").frames.shape[:2] == (4, 1)
    (tree / "split.yaml").write_text("train: [c0, c1]\nval: [c2]\nstills: [c0]\n")
    clips = load(tree, "train")
    assert clips.frames.shape[:2] == (4, 5) and (clips.frames[:2] == clips.frames[:2, 2:3]).all()
    assert not clips.visible[:2].any() and clips.visible[2:].any()
    (tree / "split.yaml").write_text("train: [c0]\nval: [c1, c2]\nstills: [c2]\n")
    with pytest.raises(TcsegError, match="val has stills and video"):
        load(tree, "val")


SHAPES = [((40, 65), (5, 30)), ((8, 40), (6, 8)), ((3, 12), (2, 12)), ((3, 4), (2, 4))]


@pytest.mark.parametrize(("lengths", "shape"), SHAPES)
def test_validation_windows_cover_every_label_once(tmp_path, lengths, shape):
    tree = own_tree(tmp_path / "mine", clips=1, length=1, labelled=None)
    for number, length in enumerate(lengths):
        own_tree(tmp_path / "part", clips=1, length=length, labelled=range(0, length, 2))
        for kind in ("frames", "labels"):
            (tmp_path / "part" / kind / "c0").rename(tree / kind / f"v{number}")
    (tree / "split.yaml").write_text("train: [c0]\nval: [v0, v1]\n")
    clips = load(tree, "val")
    assert clips.frames.shape[:2] == shape and clips.annotated.sum() == sum(-(-length // 2) for length in lengths)
    for i in [i for i, name in enumerate(clips.names) if name.startswith("v0") and lengths[0] < shape[1]]:
        assert not clips.visible[i, lengths[0] - 1 :].any() and (clips.flow[i, lengths[0] - 1 :] > 1000).all()


def test_repeated_frames_count_nothing(tmp_path):
    """A clip of four frames scores the same alone and among longer clips, in all but ETC's script, which knows no mask."""
    tree = own_tree(tmp_path / "mine", clips=3, length=4, labelled=None)
    for name in ("c1", "c2"):
        for kind in ("frames", "labels"):
            for t in range(4, 12):
                (tree / kind / name / f"{t:04d}.png").write_bytes((tree / kind / name / f"{t - 4:04d}.png").read_bytes())
    (tree / "split.yaml").write_text("train: [c2]\nval: [c0, c1]\n")
    among = load(tree, "val")
    (tree / "split.yaml").write_text("train: [c2]\nval: [c0]\n")
    alone = load(tree, "val")
    rng = np.random.default_rng(0)
    maps = rng.integers(0, 3, (4, 32, 64), np.uint8)
    longer = np.concatenate([maps, np.repeat(maps[-1:], 8, 0)])
    one = split_scores.count_predictor(lambda i: maps, alone)
    two = split_scores.count_predictor(lambda i: longer if i == 0 else np.asarray(among.labels[1]) % 3, among)
    assert alone.frames.shape[1] == 4 and among.frames.shape[1] == 12
    for name in ("miou", "tc_dis", "tc_unmasked_dis", "flicker"):
        assert repr(split_scores.summed(one, name)) == repr(two["c0+000000"][name]), name


def test_films_are_read_by_number_and_labels_named_by_it(tmp_path):
    tree = own_tree(tmp_path / "mine", clips=3, length=20, labelled=(5, 12), size=(64, 64))
    frames = [cv2.imread(str(tree / f"frames/c0/{t:04d}.png")) for t in range(20)]
    film = cv2.VideoWriter(str(tmp_path / "c0.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 10, (64, 64))
    for frame in frames:
        film.write(frame)
    film.release()
    for path in (tree / "frames/c0").iterdir():
        path.unlink()
    (tmp_path / "c0.mp4").rename(tree / "frames/c0/film.mp4")
    assert frame_count(tree / "frames/c0/film.mp4") == 20 and frame_rate(tree / "frames/c0/film.mp4") == 10
    found = open_folder(tree)
    assert found.clips["c0"].film and list(found.clips["c0"].labels) == [5, 12] and found.clips["c0"].length == 20
    clips = load(tree, "train", size=(64, 64))
    for i, first in ((0, 3), (1, 10)):
        for t in range(5):
            apart = [np.abs(clips.frames[i, t].astype(int) - one[..., ::-1].transpose(2, 0, 1)).mean() for one in frames]
            assert int(np.argmin(apart)) == first + t
    read = Film(tree / "frames/c0/film.mp4")
    assert np.array_equal(read.frame(15), read.frame(15)) and read.frame(2).shape == (64, 64, 3)
    with pytest.raises(TcsegError, match="film.mp4 ends before frame 20; its last whole frame is 19"):
        read.frame(20)
    write(tree / "labels/c0/000020.png", np.zeros((64, 64), np.uint8))
    with pytest.raises(TcsegError, match="000020.png: the label has no frame.*0 to 19"):
        open_folder(tree)
    (tree / "frames/c0/film.mp4").write_bytes(b"nothing")
    with pytest.raises(TcsegError, match="film.mp4 cannot be read as a film"):
        open_folder(tree)


def test_the_cache_knows_what_it_holds(tmp_path):
    tree, lines = own_tree(tmp_path / "mine"), []
    first = load(tree, "train", progress=lines.append)
    assert load(tree, "train", progress=lines.append).key == first.key and lines == ["decoding 4 mine train windows at 64x32"]
    tree.rename(tmp_path / "moved")
    assert load(tmp_path / "moved", "train").key == first.key
    table = tmp_path / "moved/classes.yaml"
    table.write_text(table.read_text().replace("mapping: {8: rest}", "mapping: {8: car}"))
    assert load(tmp_path / "moved", "train").key != first.key
    with pytest.raises(TcsegError, match="split is 'test'"):
        load(tmp_path / "moved", "test")


def same(own, camvid):
    """Both have the same arrays."""
    for name in ("frames", "labels", "annotated"):
        assert np.array_equal(getattr(own, name), getattr(camvid, name)), name
    assert own.label_set is camvid.label_set and list(own.flows) == list(camvid.flows)
    for source in camvid.flows:
        assert all(np.array_equal(*pair) for pair in zip(own.flows[source], camvid.flows[source], strict=True))


def test_camvid_laid_out_so_scores_as_camvid_does(tmp_path):
    root = camvid_tree(tmp_path / "camvid", train=6, val=40)
    tree = laid_out(root, tmp_path / "mine")
    own = {split: load(tree, split) for split in ("train", "val")}
    real = {split: named_clips.load_clips("camvid", root, split, SIZE, tmp_path / "cache2") for split in own}
    for split, clips in own.items():
        same(clips, real[split])
    recipe = Recipe("student", "student", steps=2, batch=2, pairs=2, temporal=1.0)
    networks = [loop.train(recipe, of["train"], tmp_path / name)[0] for name, of in (("a", own), ("b", real))]
    states = [network.state_dict() for network in networks]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[1])
    scores = [split_scores.evaluate(network, of["val"]) for network, of in zip(networks, (own, real), strict=True)]
    assert scores[0]["metrics"] == scores[1]["metrics"] and scores[0]["per_class"] == scores[1]["per_class"]
    assert len(scores[0]["per_clip"]["names"]) == len(scores[1]["per_clip"]["names"]) == 3


@pytest.mark.slow
def test_the_real_camvid_laid_out_so_scores_as_camvid_does(tmp_path):
    root = find_dataset("camvid")
    if root is None:
        pytest.skip("CamVid is not on this machine")
    tree = laid_out(root, tmp_path / "mine")
    size = (128, 96)
    own = {split: load(tree, split, size=size, limit=limit) for split, limit in (("train", None), ("val", 2))}
    real = {
        split: named_clips.load_clips("camvid", root, split, size, tmp_path / "cache2", limit=limit)
        for split, limit in (("train", None), ("val", 2))
    }
    for split, clips in own.items():
        same(clips, real[split])
    assert own["train"].frames.shape[:2] == (367, 1) and own["val"].frames.shape[:2] == (1, 34)
    network = registry.build("student", own["val"].label_set, pretrained=False).eval()
    scores = [split_scores.evaluate(network, of["val"])["metrics"] for of in (own, real)]
    assert scores[0] == scores[1]
