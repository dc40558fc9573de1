"""Networks of the hub: each family by a tiny sister, against transformers' own post-processing; folders that are not whole."""

import json
import shutil
import socket

import numpy as np
import pytest
import tiny_teachers as tiny
import torch

from tcseg.adaptation.kinds.checkpoint_files import SEMANTIC, UNIVERSAL, read_licence
from tcseg.adaptation.kinds.transformers_models import mask_scores
from tcseg.adaptation.kinds.windows import shown_size, window_corners
from tcseg.adaptation.teachers import open_teacher
from tcseg.errors import CannotRunError, InputError, NotFoundError, TcsegError
from tcseg.labels import CITYSCAPES

transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder of each family, made when it is first asked for."""
    root, made = tmp_path_factory.mktemp("teachers"), {}

    def folder(family):
        if family not in made:
            made[family] = tiny.save(family, root / family)
        return made[family]

    return folder


def frames_of(width, height, count=1):
    """Smooth pictures, so that resizing changes little."""
    rng = np.random.default_rng(3)
    small = rng.integers(0, 256, (count, 3, max(height // 16, 1), max(width // 16, 1)))
    large = torch.nn.functional.interpolate(torch.from_numpy(small).float(), (height, width), mode="bilinear")
    return large.permute(0, 2, 3, 1).round().to(torch.uint8).numpy()


def normalised(frame):
    """As transformers' own processor has it."""
    keep = {key: tiny.PREPROCESSOR[key] for key in ("image_mean", "image_std")}
    made = transformers.SegformerImageProcessor(do_resize=False, **keep)(frame, return_tensors="pt")
    return made["pixel_values"]


def refused(error, *words):
    text = str(error.value)
    assert isinstance(error.value, TcsegError) and "\n" not in text, text
    assert all(word in text for word in words), text


# ------------------------------------------------------------------------------------------------ what they answer


@pytest.mark.parametrize("family", list(tiny.CLASSES))
def test_each_family_answers_on_the_students_grid(saved, family):
    teacher = open_teacher(saved(family), size=64)
    frames = frames_of(80, 48, 2)
    told = teacher.ask(frames, (96, 64))
    assert told.shape == (2, 19, 16, 24) and told.dtype == np.uint8
    assert np.abs(told.sum(1, dtype=int) - 255).max() <= 10  # nineteen roundings
    np.testing.assert_array_equal(told, teacher.ask(frames, (96, 64)))
    assert (teacher.ask(frames[::-1], (96, 64)) == told[::-1]).all() and (told[0] != told[1]).any()
    assert teacher.source == str(saved(family)) and teacher.licence == "other (tiny-licence, LICENSE)"


@pytest.mark.parametrize("family", ["segformer", "upernet", "dpt", "beit"])
def test_a_semantic_network_says_what_transformers_says(saved, family):
    """At the logits' own size nothing is resized: the classes are those of the field's post-processing."""
    folder, frame = saved(family), frames_of(64, 64)[0]
    network = transformers.AutoModelForSemanticSegmentation.from_pretrained(folder).eval()
    with torch.no_grad():
        out = network(pixel_values=normalised(frame))
    rows, columns = out.logits.shape[-2:]
    (theirs,) = transformers.SegformerImageProcessor().post_process_semantic_segmentation(out, [(rows, columns)])
    answers = open_teacher(folder, size=64).answers(frame, (columns, rows), None)
    np.testing.assert_array_equal(answers.argmax(0), theirs)
    torch.testing.assert_close(torch.from_numpy(answers), out.logits[0].softmax(0), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("family", ["mask2former", "maskformer", "oneformer", "eomt"])
def test_a_universal_network_says_what_transformers_says_at_the_masks_own_size(saved, family):
    """OneFormer's post-processing is the one that does not resize masks to 384x384 first; EoMT's takes the size."""
    folder, frame = saved(family), frames_of(64, 64)[0]
    network = transformers.AutoModelForUniversalSegmentation.from_pretrained(folder).eval()
    more = {}
    if family == "oneformer":
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        processor = transformers.OneFormerProcessor.__new__(transformers.OneFormerProcessor)
        processor.tokenizer = tokenizer
        more["task_inputs"] = processor._preprocess_text(["the task is semantic"], max_length=12)
    with torch.no_grad():
        out = network(pixel_values=normalised(frame), **more)
    rows, columns = out.masks_queries_logits.shape[-2:]
    if family == "eomt":
        sizes = {"target_sizes": [(rows, columns)], "size": {"shortest_edge": rows, "longest_edge": columns}}
        (theirs,) = transformers.EomtImageProcessor().post_process_semantic_segmentation(
            out, return_segmentation_scores=True, **sizes
        )
    else:
        own = transformers.OneFormerImageProcessor.post_process_semantic_segmentation
        (theirs,) = own(None, out, return_segmentation_scores=True)
    scores = theirs.segmentation_scores
    answers = open_teacher(folder, size=64).answers(frame, (columns, rows), None)
    torch.testing.assert_close(torch.from_numpy(answers), scores / scores.sum(0), rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(answers.argmax(0), theirs.segmentation)


def test_fine_masks_are_not_lost():
    """Stripes of a cell each, 512 of them: at 384x384, where transformers looks at Mask2Former's masks, they are gone."""
    stripes = torch.where(torch.arange(512) % 2 == 0, 8.0, -8.0)[:, None].expand(512, 16)
    classes = torch.tensor([[8.0, 0, 0], [0, 8.0, 0]])
    found = mask_scores(classes, torch.stack((stripes, -stripes))).argmax(0)
    assert (found[:, 0] == torch.arange(512) % 2).all()


def test_windows_are_put_together_where_they_belong(saved):
    """A frame of two windows is answered as the two alone; with an overlap both have a say in it."""
    teacher, frame = open_teacher(saved("eomt")), frames_of(128, 64)[0]
    left, right = (teacher.answers(half, (16, 16), None) for half in (frame[:, :64], frame[:, 64:]))
    whole = teacher.answers(frame, (32, 16), None)
    np.testing.assert_allclose(whole, np.concatenate((left, right), 2), atol=1e-5)
    upright = teacher.answers(frame.transpose(1, 0, 2), (16, 32), None)
    assert upright.shape == (19, 32, 16) and np.isfinite(upright).all()
    wide = teacher.answers(frames_of(96, 64)[0], (24, 16), None)
    assert wide.shape == (19, 16, 24) and (wide.sum(0) > 0.99).all()


@pytest.mark.parametrize("size", [(96, 64), (160, 100), (64, 72)])
def test_where_windows_overlap_their_mean_counts(saved, size):
    """A semantic network's probabilities sum to 1 in each window, so they do in the mean."""
    scores = open_teacher(saved("beit")).answers(frames_of(*size)[0], (24, 16), None)
    np.testing.assert_allclose(scores.sum(0), 1, atol=1e-4)


@pytest.mark.parametrize("family", ["segformer", "oneformer"])
def test_a_larger_size_is_another_answer_and_another_key(saved, family):
    small, large = (open_teacher(saved(family), size=size) for size in (64, 128))
    frames = frames_of(64, 64)
    assert small.key != large.key and (small.ask(frames, (64, 64)) != large.ask(frames, (64, 64))).any()
    assert small.key == open_teacher(saved(family), size="64").key
    assert "shorter side of 1024" in str(open_teacher(saved(family)))


def test_classes_are_matched_by_name_not_by_place(tmp_path, saved):
    """The same weights with the names in another order answer in another order."""
    folder = shutil.copytree(saved("segformer"), tmp_path / "turned")
    config = json.loads((folder / "config.json").read_text())
    turned = [name.title().replace(" ", "_") for name in CITYSCAPES.classes[::-1]]
    config |= {"id2label": dict(enumerate(turned)), "label2id": {name: i for i, name in enumerate(turned)}}
    (folder / "config.json").write_text(json.dumps(config))
    frames = frames_of(64, 64)
    usual, other = (open_teacher(one, size=64).ask(frames, (64, 64)) for one in (saved("segformer"), folder))
    np.testing.assert_array_equal(other, usual[:, ::-1])


def test_blue_comes_first_for_a_network_that_learned_so(tmp_path):
    """MobileViT's own processor flips the channels and does not normalise."""
    folder = tiny.save("mobilevit", tmp_path / "m", preprocessor={"do_rescale": True, "do_flip_channel_order": True})
    frame = frames_of(64, 64)[0]
    pixels = torch.from_numpy(frame[..., ::-1].copy()).permute(2, 0, 1)[None] / 255
    torch.testing.assert_close(open_teacher(folder, size=64).answers._normalised(frame), pixels)


# ------------------------------------------------------------------------------------------------ sizes and windows


@pytest.mark.parametrize("frame", [(1280, 720), (720, 1280), (64, 64), (1921, 1079), (4000, 300)])
@pytest.mark.parametrize("window", [None, (64, 64), (128, 64), (1024, 1024)])
def test_windows_cover_the_frame_and_are_few(frame, window):
    size = 512 if window is None else min(window)
    shown = shown_size(frame, size, window)
    corners = list(window_corners(shown, window))
    if window is None:
        assert corners == [(0, 0)] and min(shown) == 512 and all(side % 32 == 0 for side in shown)
        return
    assert all(side >= least and side % 4 == 0 for side, least in zip(shown, window))
    seen = np.zeros((shown[1] // 4, shown[0] // 4), bool)
    for x, y in corners:
        assert x % 4 == y % 4 == 0 and 0 <= x <= shown[0] - window[0] and 0 <= y <= shown[1] - window[1]
        seen[y // 4 : (y + window[1]) // 4, x // 4 : (x + window[0]) // 4] = True
    assert seen.all() and len(set(corners)) == len(corners)
    assert len(corners) == np.prod([-(-side // least) for side, least in zip(shown, window)])
    assert shown[0] / shown[1] == pytest.approx(frame[0] / frame[1], rel=0.05)


def test_a_network_of_one_size_is_not_shown_less(saved):
    with pytest.raises(InputError) as error:
        open_teacher(saved("eomt"), size=32)
    refused(error, "32", "64x64")


# ------------------------------------------------------------------------------------------------ folders that are not whole


def without(name):
    return lambda folder: (folder / name).unlink()


def write(name, text):
    return lambda folder: (folder / name).write_text(text)


def cut_weights(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def change_config(**new):
    def change(folder):
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | new))

    return change


DAMAGE = {
    "no config": (without("config.json"), ("config.json", "maps:")),
    "half a config": (write("config.json", '{"model_type": "seg'), ("config.json", "whole")),
    "another kind": (change_config(model_type="bert"), ("'bert'", "segformer")),
    "no weights": (without("model.safetensors"), ("segformer", "whole")),
    "half the weights": (cut_weights, ("segformer", "whole")),
    "other weights": (change_config(decoder_hidden_size=24), ("segformer", "whole")),
    "no names": (change_config(id2label={i: f"LABEL_{i}" for i in range(19)}, label2id={}), ("LABEL_0", "classes")),
    "no normalisation": (without("preprocessor_config.json"), ("image_mean", "mean and std")),
    "half a preprocessor": (write("preprocessor_config.json", "{"), ("preprocessor_config.json", "whole")),
    "two channels": (
        write("preprocessor_config.json", '{"image_mean": [0, 0], "image_std": [1, 1]}'),
        ("image_mean", "three"),
    ),
}


@pytest.mark.parametrize("what", list(DAMAGE))
def test_a_damaged_folder_is_told_in_a_line(what, saved, tmp_path):
    damage, words = DAMAGE[what]
    folder = shutil.copytree(saved("segformer"), tmp_path / "m")
    damage(folder)
    with pytest.raises(TcsegError) as error:
        open_teacher(folder)
    refused(error, *words)


def test_an_encoder_alone_is_no_teacher(tmp_path):
    """transformers would put a random head upon it, with a remark in the log."""
    network = transformers.SegformerModel(tiny.config_of("segformer"))
    network.save_pretrained(tmp_path / "m")
    (tmp_path / "m" / "preprocessor_config.json").write_text(json.dumps(tiny.PREPROCESSOR))
    with pytest.raises(InputError) as error:
        open_teacher(tmp_path / "m")
    refused(error, "no weights for", "encoder alone")


def test_a_oneformer_without_its_tokenizer(tmp_path, saved):
    folder = shutil.copytree(saved("oneformer"), tmp_path / "m")
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json"):
        (folder / name).unlink()
    with pytest.raises(InputError) as error:
        open_teacher(folder)
    refused(error, "tokenizer")


def test_other_classes_are_refused_by_name(tmp_path):
    names = ["wall", "sky", "river", *CITYSCAPES.classes[:16]]
    folder = tiny.save("segformer", tmp_path / "m", classes=dict.fromkeys(names))
    with pytest.raises(InputError) as error:
        open_teacher(folder)
    refused(error, "'river'", "'train'", "'motorcycle'", "'bicycle'", "rename")


def test_names_that_are_told_are_as_many_as_its_outputs(tmp_path, saved):
    with pytest.raises(InputError) as error:
        open_teacher(saved("segformer"), classes="camvid")
    refused(error, "11", "19")
    folder = shutil.copytree(saved("segformer"), tmp_path / "m")
    change_config(id2label={i: f"LABEL_{i}" for i in range(19)}, label2id={})(folder)
    assert open_teacher(folder, classes="cityscapes").answers.classes == CITYSCAPES.classes


def test_nothing_is_printed_while_a_teacher_opens(saved, capfd):
    open_teacher(saved("segformer"))
    assert capfd.readouterr() == ("", "")


def test_all_kinds_have_a_test():
    assert set(tiny.CLASSES) & set(UNIVERSAL) == set(UNIVERSAL) - {"eomt_dinov3"}


# ------------------------------------------------------------------------------------------------ the hub and the card


@pytest.fixture
def no_hub(monkeypatch, tmp_path):
    """An empty cache, and a hub at a port where nobody listens."""
    from huggingface_hub import constants

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_without_a_network_the_cache_serves(no_hub, saved):
    """As the hub's client lays it out: refs/main names the snapshot."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    repo = no_hub / "models--org--tiny"
    shutil.copytree(saved("segformer"), repo / "snapshots" / commit)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(commit)
    teacher = open_teacher("hf:org/tiny", size=64)
    assert teacher.name == "org/tiny" and teacher.source == f"hf:org/tiny@{commit[:12]}"
    assert teacher.licence == "other (tiny-licence, LICENSE)"
    assert teacher.key == open_teacher(saved("segformer"), size=64).key


def test_no_network_is_told_in_a_line(no_hub):
    with pytest.raises(CannotRunError) as error:
        open_teacher("hf:org/tiny")
    refused(error, "hf:org/tiny", "cannot be reached", "hf download org/tiny")


@pytest.mark.parametrize(
    ("raised", "kind", "words"),
    [
        ("RepositoryNotFoundError", NotFoundError, ("'org/tiny'", "private")),
        ("GatedRepoError", CannotRunError, ("accept its terms", "hf auth login")),
        ("RevisionNotFoundError", NotFoundError, ("'v2'",)),
    ],
)
def test_what_the_hub_refuses_is_told_in_a_line(raised, kind, words, monkeypatch):
    import huggingface_hub
    from huggingface_hub import errors

    def refuse(*args, **options):
        error = getattr(errors, raised).__new__(
            getattr(errors, raised)
        )  # its __init__ wants a response of the hub's client
        error.args = ("401\nmany lines",)
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(kind) as error:
        open_teacher("hf:org/tiny@v2")
    refused(error, *words)


@pytest.mark.parametrize("source", ["hf:tiny", "hf:", "hf:a/b/c", "hf:org/../x"])
def test_an_id_of_the_hub_is_org_and_name(source):
    with pytest.raises(InputError) as error:
        open_teacher(source)
    refused(error, "hf:ORG/NAME")


def test_an_id_without_hf_is_explained():
    with pytest.raises(NotFoundError) as error:
        open_teacher("nvidia/segformer-b0")
    refused(error, "hf:nvidia/segformer-b0")


CARDS = {
    "---\nlicense: apache-2.0\n---\ntext": "apache-2.0",
    "---\nlicense: [mit, cc-by-4.0]\n---\n": "mit, cc-by-4.0",
    "# no header": "",
    "---\nlicense: [\n---\n": "",
    "---\n- a\n---\n": "",
    "---\nlanguage: en\n---\n": "",
    "": "",
}


@pytest.mark.parametrize("card", list(CARDS))
def test_the_licence_is_read_from_the_card(card, tmp_path):
    (tmp_path / "README.md").write_text(card)
    assert read_licence(tmp_path / "README.md") == CARDS[card]
    assert read_licence(tmp_path / "absent") == ""


def test_transformers_may_be_missing(monkeypatch, saved):
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(CannotRunError) as error:
        open_teacher(saved("segformer"))
    refused(error, "pip install transformers")


def test_every_kind_is_known_to_transformers():
    from transformers.models.auto import modeling_auto as auto

    known = {
        *auto.MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES,
        *auto.MODEL_FOR_UNIVERSAL_SEGMENTATION_MAPPING_NAMES,
    }
    assert {*SEMANTIC, *UNIVERSAL} <= known
