"""Segmentation metrics against independent implementations, and on cases whose answer is known."""

from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from tcseg.data.folders import find_dataset
from tcseg.labels import CAMVID, CITYSCAPES, IGNORE, ids_to_train_ids, train_ids_to_ids
from tcseg.metrics import segmentation

RNG = np.random.default_rng(0)
OLD = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")  # the official script is old


def maps(classes=19, shape=(64, 96), ignored=0.1, wrong=0.3):
    labels = RNG.integers(0, classes, shape).astype(np.uint8)
    predictions = np.where(RNG.random(shape) < wrong, RNG.integers(0, classes, shape), labels).astype(np.uint8)
    labels[RNG.random(shape) < ignored] = IGNORE
    return labels, predictions


def random_instances(shape):
    """Label ids and instanceIds of a picture of boxes: things numbered, stuff without a number."""
    ids, instances = np.full(shape, 7, np.uint8), np.full(shape, 7, np.int32)
    for number in range(30):
        label = int(RNG.choice([11, 24, 25, 26, 27, 29, 33]))
        y, x = RNG.integers(0, shape[0] - 12), RNG.integers(0, shape[1] - 12)
        box = slice(y, y + RNG.integers(3, 12)), slice(x, x + RNG.integers(3, 12))
        ids[box] = label
        instances[box] = label * 1000 + number if label >= 24 else label
    return ids, instances


def official_scores(folder: Path, frames, scale=1.0):
    """What cityscapesscripts' own evaluation says about (label ids, instanceIds, predicted ids) frames."""
    official = pytest.importorskip("cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling")
    paths = []
    for i, (ids, instances, predicted) in enumerate(frames):
        stem = folder / f"x_{i:06d}_000019_gtFine_"
        for kind, image in (("labelIds", ids), ("instanceIds", instances.astype(np.uint16)), ("pred", predicted)):
            assert cv2.imwrite(f"{stem}{kind}.png", image)
        paths.append((f"{stem}pred.png", f"{stem}labelIds.png"))
    args = official.CArgs()
    vars(args).update(vars(official.args), quiet=True, JSONOutput=False)
    args.avgClassSize = {name: size * scale for name, size in args.avgClassSize.items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(np, "in1d", np.isin, raising=False)  # NumPy 2.4 has it no more; the official script needs it
        return official.evaluateImgLists(*map(list, zip(*paths, strict=True)), args)


def check_against_official(folder, frames, scale):
    """All four kinds of IoU that the official evaluator knows, class by class and their means."""
    theirs = official_scores(folder, frames, scale)
    groups, members = segmentation.categories(CITYSCAPES), segmentation.classes(CITYSCAPES)
    counts = []
    for ids, instances, predicted in frames:
        guess = ids_to_train_ids(predicted)
        confusion = segmentation.confusion_matrix(ids_to_train_ids(ids), guess, 19)
        counts.append(
            (
                segmentation.Overlap.from_confusion(confusion),
                segmentation.group_overlap(confusion, groups),
                segmentation.instance_overlap(confusion, guess, instances, members),
                segmentation.instance_overlap(confusion, guess, instances, groups),
            )
        )
    kinds = (
        ("classScores", "averageScoreClasses", members),
        ("categoryScores", "averageScoreCategories", groups),
        ("classInstScores", "averageScoreInstClasses", members),
        ("categoryInstScores", "averageScoreInstCategories", groups),
    )
    for ours, (scores, mean, names) in zip(zip(*counts, strict=True), kinds, strict=True):
        total = sum(ours[1:], start=ours[0])
        np.testing.assert_allclose(total.iou(), [theirs[scores][name] for name in names], atol=1e-6, err_msg=scores)
        assert total.miou() == pytest.approx(theirs[mean], abs=1e-6)
    return theirs


@OLD
def test_random_maps_score_as_in_the_official_evaluator(tmp_path):
    frames = []
    for _ in range(3):
        ids, instances = random_instances((64, 96))
        truth = ids_to_train_ids(ids)
        guess = np.where(RNG.random(ids.shape) < 0.3, RNG.integers(0, 19, ids.shape), truth).astype(np.uint8)
        guess[:4] = IGNORE  # of no class on labelled pixels: misses, for the official script and for us
        guess[guess == 9] = 8  # a class in neither map
        frames.append((ids, instances, train_ids_to_ids(guess)))
    theirs = check_against_official(tmp_path, frames, 64 * 96 / (2048 * 1024))
    assert np.isnan(theirs["classScores"]["terrain"]) and 0 < theirs["averageScoreInstClasses"] < 1


@OLD
def test_real_maps_score_as_in_the_official_evaluator(tmp_path):
    root = find_dataset("cityscapes")
    found = sorted(root.glob("gtFine/*/*/*_gtFine_labelIds.png")) if root else []
    if not found:
        pytest.skip("no Cityscapes labels here")
    frames = []
    for path in found[:2]:
        ids = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        instances = cv2.imread(str(path).replace("labelIds", "instanceIds"), cv2.IMREAD_UNCHANGED)
        guess = np.roll(ids_to_train_ids(ids), (3, 17), (0, 1))
        frames.append((ids, instances, train_ids_to_ids(np.where(guess == IGNORE, np.uint8(0), guess))))
    theirs = check_against_official(tmp_path, frames, ids.size / (2048 * 1024))
    assert 0.3 < theirs["averageScoreClasses"] < 1


def real_camvid_maps():
    root = find_dataset("camvid")
    found = sorted((root / "valannot").glob("*.png"))[:3] if root else []
    if not found:
        pytest.skip("no CamVid labels here")
    labels = np.stack([cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in found])
    labels[labels == 11] = IGNORE
    guess = np.roll(labels, 5, 2)
    return labels, np.where(guess == IGNORE, np.uint8(0), guess), 11


@pytest.mark.parametrize("make", [lambda: (*maps(), 19), real_camvid_maps], ids=["random", "camvid"])
def test_miou_equals_torchmetrics_oracle(make):
    import torch
    from torchmetrics.classification import MulticlassJaccardIndex

    labels, predictions, classes = make()
    present = np.union1d(np.unique(labels), np.unique(predictions[labels != IGNORE]))
    assert len(present[present != IGNORE]) == classes  # where a class is in neither map the conventions differ
    oracle = MulticlassJaccardIndex(classes, average="macro", ignore_index=IGNORE)
    expected = oracle(torch.from_numpy(predictions).long(), torch.from_numpy(labels).long()).item()
    assert segmentation.overlap(labels, predictions, classes).miou() == pytest.approx(expected, abs=1e-6)


def test_counts_add_up_and_take_away():
    parts = [maps() for _ in range(3)]
    each = [segmentation.overlap(*part, 19) for part in parts]
    whole = segmentation.overlap(np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts]), 19)
    assert (sum(each, start=segmentation.Overlap.zero(19)).iou() == whole.iou()).all()
    assert ((whole - each[0]).iou() == (each[1] + each[2]).iou()).all()
    assert (segmentation.Share(1, 4) + segmentation.Share(2, 4)).value() == 3 / 8
    assert segmentation.Share() + segmentation.Share(1, 4) == segmentation.Share(1, 4)


@pytest.mark.parametrize("counts", [segmentation.Share(1, 4), segmentation.Overlap.zero(3)], ids=["share", "overlap"])
def test_counts_are_values(counts):
    """Sums are kept beside their parts: whoever holds counts has them for good."""
    for name, value in vars(counts).items():
        with pytest.raises(FrozenInstanceError):
            setattr(counts, name, value)


def test_counts_of_many_clips_are_scored_one_by_one():
    """Stacked along the first axis, as intervals take them: each row has its own mean, over the classes that it has."""
    parts = [segmentation.overlap(*maps(classes), 19) for classes in (19, 5, 11)]
    stacked = segmentation.Overlap(*(np.stack([getattr(p, name) for p in parts]) for name in vars(parts[0])))
    np.testing.assert_array_equal(stacked.iou(), [part.iou() for part in parts])
    assert stacked.iou().shape == (3, 19)
    np.testing.assert_allclose(stacked.miou(), [part.miou() for part in parts])


def test_scores_by_hand():
    """Of six labelled pixels; one answer is of no class: a miss, and nobody's false alarm."""
    labels = np.array([[0, 0, 0, 1, 1, 2, IGNORE, IGNORE]], np.uint8)
    predictions = np.array([[0, 0, 1, 1, IGNORE, 0, 0, 2]], np.uint8)
    assert segmentation.confusion_matrix(labels, predictions, 3).tolist() == [[2, 1, 0, 0], [0, 1, 0, 1], [1, 0, 0, 0]]
    counts = segmentation.overlap(labels, predictions, 3)
    assert counts.iou().tolist() == [2 / 4, 1 / 3, 0] and counts.miou() == pytest.approx((2 / 4 + 1 / 3) / 3)
    assert counts.accuracy() == 3 / 6 and counts.counted() and not segmentation.Overlap.zero(3).counted()
    nobodys = segmentation.overlap(np.zeros((1, 1), np.uint8), np.full((1, 1), IGNORE, np.uint8), 3)
    assert nobodys.counted() and nobodys.accuracy() == 0
    assert segmentation.Share(3, 4).value() == 0.75 and segmentation.Share(0, 4).counted() and not segmentation.Share().counted()


@pytest.mark.parametrize("label", [3, 4, 200, 254])
def test_a_label_beyond_the_classes_is_named(label):
    labels = np.array([[0, 1, 2, label]], np.uint8)
    with pytest.raises(ValueError, match=f"labels contain {label}; with 3 classes they must be below 3 or 255"):
        segmentation.confusion_matrix(labels, np.zeros_like(labels), 3)
    beyond = segmentation.confusion_matrix(np.zeros_like(labels), labels, 3)
    assert beyond.tolist() == [[1, 1, 1, 1], [0] * 4, [0] * 4], "an answer beyond them is a miss"


def test_with_no_classes_every_label_is_beyond_them():
    zero = np.zeros((1, 2), np.uint8)
    with pytest.raises(ValueError, match="labels contain 0; with 0 classes"):
        segmentation.confusion_matrix(zero, zero, 0)
    assert segmentation.confusion_matrix(zero + IGNORE, zero, 0).shape == (0, 1)


def test_permuted_classes_have_the_same_mean():
    labels, predictions = maps(ignored=0)
    order = RNG.permutation(19).astype(np.uint8)
    a, b = segmentation.overlap(labels, predictions, 19), segmentation.overlap(order[labels], order[predictions], 19)
    assert a.miou() == pytest.approx(b.miou())


def test_absent_classes_are_left_out_of_the_mean_and_said_to_be():
    labels, predictions = maps(classes=5)
    counts = segmentation.overlap(labels, predictions, 19)
    assert np.isnan(counts.iou()[5:]).all() and counts.miou() == pytest.approx(counts.iou()[:5].mean())


def test_nothing_labelled_is_nan_not_zero():
    nothing = np.full((4, 4), IGNORE, np.uint8)
    counts = segmentation.overlap(nothing, np.zeros((4, 4), np.uint8), 19)
    assert np.isnan(counts.miou()) and np.isnan(counts.accuracy()) and np.isnan(segmentation.Share().value())


def test_bad_maps_are_refused():
    labels, predictions = maps()
    with pytest.raises(ValueError, match="resize the logits"):
        segmentation.overlap(labels, predictions[:8], 19)
    with pytest.raises(ValueError, match="resize the logits"):
        segmentation.overlap(labels[:8], predictions, 19)
    with pytest.raises(ValueError, match="labels contain 18; with 11 classes"):
        segmentation.overlap(np.full((2, 2), 18, np.uint8), np.zeros((2, 2), np.uint8), 11)
    with pytest.raises(ValueError, match="predictions int64; both must be uint8"):
        segmentation.overlap(labels, predictions.astype(np.int64), 19)


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint16, np.float32])
def test_maps_of_another_type_are_refused_on_either_side(dtype):
    one, other = np.ones((2, 2), np.uint8), np.ones((2, 2), dtype)
    for labels, predictions in ((one, other), (other, one)):
        with pytest.raises(ValueError, match="both must be uint8 trainIds"):
            segmentation.confusion_matrix(labels, predictions, 19)


def test_label_sets_of_other_names_have_no_categories():
    assert segmentation.categories(CAMVID) == {} == segmentation.categories(replace(CITYSCAPES, name="mine"))
    assert list(segmentation.categories(CITYSCAPES)) == "flat construction object nature sky human vehicle".split()


def test_confusion_within_a_category_is_no_mistake_for_it():
    labels, predictions = np.full((1, 4), 13, np.uint8), np.array([[13, 14, 13, 0]], np.uint8)  # car, truck, car, road
    confusion = segmentation.confusion_matrix(labels, predictions, 19)
    found = segmentation.group_overlap(confusion, segmentation.categories(CITYSCAPES)).iou()
    assert found[-1] == 3 / 4 and found[0] == 0 and np.isnan(found[1:-1]).all()


def test_small_instances_weigh_as_much_as_large_ones():
    instances = np.full((10, 20), 7)
    instances[:, :9], instances[0, 19] = 26_001, 26_002  # a car of 90 pixels, and one of a single pixel
    labels = np.where(instances > 1000, 13, 0).astype(np.uint8)
    predictions = labels.copy()
    predictions[0, 19] = 0  # the small car is missed
    confusion = segmentation.confusion_matrix(labels, predictions, 19)
    found = segmentation.instance_overlap(confusion, predictions, instances, segmentation.classes(CITYSCAPES)).iou()
    assert found[13] == pytest.approx(0.5) and np.isnan(found[0])  # roads have no instances
    assert segmentation.overlap(labels, predictions, 19).iou()[13] == pytest.approx(90 / 91)


def test_mean_sizes_of_instances_are_the_official_ones():
    official = pytest.importorskip("cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling")
    sizes = official.args.avgClassSize
    assert {name: size for name, size in sizes.items() if name not in ("caravan", "trailer")} == segmentation.AVERAGE_INSTANCE


@pytest.mark.parametrize("number", [0, 1, 500, 999])
def test_an_instance_is_of_its_class_whatever_its_number(number):
    labels = np.full((4, 6), 13, np.uint8)
    confusion = segmentation.confusion_matrix(labels, labels, 19)
    instances = np.full((4, 6), 26_000 + number)
    found = segmentation.instance_overlap(confusion, labels, instances, segmentation.classes(CITYSCAPES))
    weight = segmentation.AVERAGE_INSTANCE["car"] / (2048 * 1024)  # 24 pixels of a picture of 24
    assert found.labelled == pytest.approx(np.eye(19)[13] * 24 * weight) and found.iou()[13] == 1


def test_groups_of_things_have_the_same_hits_alone_as_among_all_groups():
    """An answer that is in none of the groups is wrong for each of them, void included."""
    ids, instances = random_instances((64, 96))
    labels = ids_to_train_ids(ids)
    guess = np.where(RNG.random(ids.shape) < 0.4, RNG.integers(0, 19, ids.shape), labels).astype(np.uint8)
    guess[:, ::5] = IGNORE
    groups = segmentation.categories(CITYSCAPES)
    things = {name: groups[name] for name in ("human", "vehicle")}
    confusion = segmentation.confusion_matrix(labels, guess, 19)
    alone, among = (segmentation.instance_overlap(confusion, guess, instances, some) for some in (things, groups))
    assert (alone.intersection == among.intersection[-2:]).all() and (alone.labelled == among.labelled[-2:]).all()
    assert (alone.intersection > 0).all() and (alone.intersection < alone.labelled).all()


@pytest.mark.parametrize("width", [1, 3])
def test_the_band_is_what_is_near_another_true_class(width):
    labels = np.zeros((20, 30), np.uint8)
    labels[5:9, 10:20], labels[15:, :4], labels[2, 28] = 1, IGNORE, 2
    by_hand = np.zeros(labels.shape, bool)
    for y, x in np.ndindex(labels.shape):
        near = labels[max(0, y - width) : y + width + 1, max(0, x - width) : x + width + 1]
        by_hand[y, x] = len(set(near[near != IGNORE].tolist())) > 1
    assert (segmentation.boundary_band(labels, width) == by_hand).all()


def test_the_band_grows_with_the_picture():
    assert [segmentation.band_width(shape) for shape in ((8, 8), (64, 128), (512, 1024), (1024, 2048))] == [1, 1, 6, 11]
    plain = np.full((8, 8), 5, np.uint8)
    assert not segmentation.boundary_band(plain).any()
    assert not segmentation.boundary_band(np.full((8, 8), IGNORE, np.uint8)).any()
