"""What is told of a student: held against counts made by hand."""

import cv2
import numpy as np
import pytest
from test_frames import drive, refused, write_folder
from test_store import CLASSES, Brightness, gather, teacher_of

from tcseg.adaptation import card, report
from tcseg.adaptation.kinds.answers import Place
from tcseg.adaptation.learning.training import QuickCheck
from tcseg.adaptation.report import Counter, Shown, Truth, held_out_frames, score, video_frames
from tcseg.errors import InputError, NotFoundError
from tcseg.labels import CAMVID, CITYSCAPES, IGNORE
from tcseg.models import registry

FRAME = drive(1, 1)[0]  # (96,160)


class Fixed(Counter):
    """Counts given answers instead of networks'."""

    def __init__(self, *stages, label_set=CITYSCAPES, truth=None):
        super().__init__(dict.fromkeys(stages), label_set, truth)
        self.answers = {}

    def _open(self, frame):
        return [lambda _, stage=stage: (self.answers[stage], None) for stage in self.networks]

    def add(self, told, unit="a", follows=False, frame=FRAME, name="0", **answers):
        self.answers = answers
        self.step(
            Shown(frame, Place("v", name), lambda size: cv2.resize(told, size, interpolation=cv2.INTER_NEAREST), unit, follows)
        )


def halves(left, right):
    labels = np.full((96, 160), left, np.uint8)
    labels[:, 80:] = right
    return labels


def test_agreement_is_the_mean_iou_with_the_teacher():
    counter = Fixed("before", "after")
    counter.add(halves(0, 1), before=halves(0, 0), after=halves(0, 1))
    found = score(counter)
    assert found["before"].agreement.value == pytest.approx((0.5 + 0) / 2) and found["after"].agreement.value == 1
    assert found["before"].agreement_by_class == {"road": 0.5, "sidewalk": 0.0}
    assert np.isnan(found["after"].flicker.value) and np.isnan(found["after"].miou.value)


def test_where_the_teacher_says_nothing_nothing_is_counted():
    counter = Fixed("after")
    counter.add(halves(0, IGNORE), after=halves(0, 1))
    assert score(counter)["after"].agreement_by_class["road"] == 1 and counter.of["after"].agreement["a"].sum() == 96 * 80


def test_flicker_is_what_changes_along_the_motion():
    counter = Fixed("before", "after")
    for t in range(4):
        counter.add(halves(0, t % 2), unit=str(t // 2), follows=t > 0, before=halves(0, 0), after=halves(t % 2, 1))
    found = score(counter)
    assert found["before"].flicker.value == 0 and found["after"].flicker.value == pytest.approx(0.5, abs=0.02)
    assert found["teacher"].flicker.value == pytest.approx(0.5, abs=0.02)


def test_a_moving_camera_is_no_flicker():
    """Labels that move with the street; with the camera's pan taken for nothing, a fifth of the comb would change."""
    frames, counter = drive(2, 5, step=4), Fixed("after")
    world = np.repeat((np.arange(200) // 10 % 2).astype(np.uint8)[None], 96, 0)
    for t, frame in enumerate(frames):
        view = np.ascontiguousarray(world[:, 4 * t : 4 * t + 160])
        counter.add(view, follows=t > 0, frame=frame, after=view)
    assert score(counter)["after"].flicker.value < 0.03


def test_frames_that_do_not_follow_are_not_compared():
    counter = Fixed("after")
    counter.add(halves(0, 0), after=halves(0, 0))
    counter.add(halves(0, 0), after=halves(1, 1), follows=False)
    assert counter.of["after"].changed == {}


def write_labels(folder, **maps):
    folder.mkdir(parents=True, exist_ok=True)
    for name, labels in maps.items():
        cv2.imwrite(str(folder / f"{name}.png"), labels)
    return folder


def test_truth_of_merged_classes(tmp_path):
    """CamVid's labels, 11 = void, against Cityscapes' answers: walls are building, trucks are cars."""
    labels = halves(CAMVID.classes.index("building"), CAMVID.classes.index("car"))
    labels[:10] = 11
    truth = Truth(write_labels(tmp_path / "t", f7=labels, f8=labels), "camvid", CITYSCAPES)
    wall, truck = (CITYSCAPES.classes.index(name) for name in ("wall", "truck"))
    counter = Fixed("after", truth=truth)
    counter.add(halves(wall, wall), name="f7", after=halves(wall, truck))
    counter.add(halves(wall, wall), name="f9", after=halves(0, 0))  # which has no labels
    found = score(counter)
    assert found["after"].miou.value == 1 and found["teacher"].truth_by_class == {"building": 0.5, "car": 0.0}


def test_flicker_beside_labels_is_of_what_stays_the_same(tmp_path):
    a, b = halves(0, 0), halves(0, 2)
    truth = Truth(write_labels(tmp_path / "t", f0=a, f1=b, f2=halves(18, 18)), "cityscapes", CITYSCAPES)
    counter = Fixed("after", truth=truth)
    counter.add(a, name="f0", after=a)
    counter.add(b, name="f1", follows=True, after=b)  # the right half changed, as it should
    changed, total = counter.of["after"].changed["a"]
    assert changed == 0 and total == pytest.approx(96 * 80, rel=0.05)


def test_labels_are_found_by_video_and_by_cityscapes_names(tmp_path):
    one, other = halves(0, 1), halves(1, 18)
    write_labels(tmp_path / "t" / "v", x_gtFine_labelTrainIds=one)
    write_labels(tmp_path / "t" / "w", x_gtFine_labelTrainIds=other)
    truth = Truth(tmp_path / "t", "cityscapes", CITYSCAPES)
    assert np.array_equal(truth(Place("v", "x_leftImg8bit")), one) and np.array_equal(truth(Place("w", "x_leftImg8bit")), other)
    assert truth(Place("v", "y")) is None


def test_labels_that_cannot_be(tmp_path):
    with pytest.raises(NotFoundError) as error:
        Truth(tmp_path / "none", "camvid", CITYSCAPES)
    refused(error, "no folder")
    with pytest.raises(NotFoundError) as error:
        Truth(write_labels(tmp_path / "empty"), "camvid", CITYSCAPES)
    refused(error, "no label maps")
    with pytest.raises(InputError) as error:
        Truth(write_labels(tmp_path / "t", f0=halves(0, 1)), "cityscapes", CLASSES)
    refused(error, "cityscapes", "student")


@pytest.fixture(scope="module")
def street(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("report") / "street", drive(1, 45))


def test_stored_and_asked_frames_are_told_alike(street, tmp_path):
    targets = gather(street, tmp_path, Brightness(), size=(160, 96))
    kept = targets.split()[1]
    stored = {shown.place.frame: shown for shown in held_out_frames([targets], [kept])}
    asked = {shown.place.frame: shown for shown in video_frames(street, "street", teacher_of(Brightness()))}
    assert len(asked) == 45 and len(stored) == 3 * len(kept) and set(stored) <= set(asked)
    assert sum(shown.follows for shown in asked.values()) == 44 and sum(shown.follows for shown in stored.values()) == 2 * len(kept)
    for name, shown in stored.items():
        assert np.array_equal(shown.frame, asked[name].frame)
        assert (shown.told((160, 96)) == asked[name].told((160, 96))).mean() > 0.93


def test_cuts_are_not_followed(tmp_path):
    folder = write_folder(tmp_path / "two", drive(1, 4) + drive(2, 4))
    assert [shown.follows for shown in video_frames(folder, "two", teacher_of(Brightness()))] == [
        False,
        *[True] * 3,
        False,
        *[True] * 3,
    ]
    assert not any(shown.follows for shown in video_frames(folder, "two", teacher_of(Brightness()), fps=1))


def test_the_quick_check_is_one_for_the_teacher_itself(street, tmp_path):
    targets = gather(street, tmp_path, Brightness())
    check = QuickCheck([targets], [targets.split()[1]])
    network = registry.build("student", CLASSES).eval()

    class Copy(type(network)):
        def forward(self, frames, features=False):
            bright = frames.float().mean(1, keepdim=True)[..., ::4, ::4] * 0
            probs = [one.probs[1] for one in (targets[index] for _, index in check.where)]
            Copy.turn = (getattr(Copy, "turn", -1) + 1) % len(probs)
            return bright + __import__("torch").from_numpy(probs[Copy.turn])[None].float()

    assert 0 <= check(network) < 1
    network.__class__ = Copy
    assert check(network) == 1


def test_summary_and_nan():
    nothing = report.Score(*[report.NONE] * 3, {}, {})
    some = nothing._replace(agreement=report.Interval(0.5, 0.4, 0.6))
    text = card.summary({"before": some, "after": some, "teacher": nothing})
    assert "50.0 (40.0 to 60.0)" in text and "flicker" not in text and "not truth" in text
    assert card.without_nan({"a": report.NONE, "b": some.agreement}) == {"a": [None] * 3, "b": [0.5, 0.4, 0.6]}
