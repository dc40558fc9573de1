"""What a network is: the fingerprint sees another network under an old name, and nothing else."""

import copy
import json
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from timm.layers import DropPath
from torch import nn
from torchvision.ops import StochasticDepth

from tcseg.errors import InputError
from tcseg.models import networks, peer_networks, registry, students
from tcseg.models.fingerprints import PINNED, fingerprint, outputs
from tcseg.models.peers import PEERS
from tcseg.models.students import CANDIDATES
from tcseg.study import run_ids
from tcseg.study.paths import FIGURES

KERNEL, FRAMES = [0.016278686464321658, 0.3091808947625532], 12312903  # what was drawn when networks were pinned
NAMES = list(dict.fromkeys([*registry.REGISTRY, *CANDIDATES, *PEERS]))


@pytest.fixture
def asked_afresh():
    """No answer of before an edit, and none of an edit after it."""
    registry.forget_fingerprints()
    yield
    registry.forget_fingerprints()


def built(name="student-cpu", classes=19):
    return registry.build(name, classes, pretrained=False)


def test_the_values_of_a_weight_are_frozen():
    """All fingerprints are of these: a later numpy must draw the same."""
    from tcseg.models.fingerprints import _frames, _values

    kernel = _values("encoder.stem.conv.weight", (16, 3, 4, 4))
    assert kernel.ravel()[:2].tolist() == pytest.approx(KERNEL, rel=1e-14)
    assert kernel.var() == pytest.approx(2 / 48, rel=0.1) and abs(kernel.mean()) < 0.02
    scale, mean = _values("norm.weight", (500,)), _values("norm.running_mean", (500,))
    assert 0.5 < scale.min() < 0.51 and 1.49 < scale.max() < 1.5 and 0.09 < abs(mean).max() < 0.1
    assert not np.array_equal(scale, _values("norm2.weight", (500,)))
    frames = _frames()
    assert frames.dtype == torch.uint8 and int(frames.long().sum()) == FRAMES and frames.shape == (1, 3, 128, 256)


def to_the_nearest_rounding(value):
    """How far a number is, relatively, from where its fifth digit changes."""
    unit = 10.0 ** (math.floor(math.log10(abs(value))) - 4)
    return abs(abs(value) / unit % 1 - 0.5) * unit / abs(value)


@pytest.mark.parametrize("name", NAMES)
def test_every_network_is_the_pinned_one(name, asked_afresh):
    """A network that answers otherwise needs a name of its own. Two versions of torch differ by 1e-12; a pin bears 1e-7."""
    if name == "segformer-b0":
        pytest.importorskip("transformers")
    model = built(name)
    if name == "segformer-b0" and not any("linear_projections" in key for key in model.state_dict()):
        pytest.skip("an older transformers: its weights have other names, and files of one do not load with the other")
    assert registry.fingerprint_of(name, 19, model) == PINNED[name]
    assert registry.spec_key(name) == repr(registry.spec_of(name)), "existing ids stay"
    numbers = outputs(model)
    assert len(set(numbers)) == 8 and all(to_the_nearest_rounding(number) > 1e-7 for number in numbers)


def test_all_networks_are_told_apart():
    assert set(PINNED) == set(NAMES)
    same = [{"student", "mnv3s050-48-o4"}, {"student-cpu", "patch16-32-o8"}, {"student-gpu", "plain32-64-o8"}]
    for one in NAMES:
        alike = {other for other in NAMES if PINNED[other] == PINNED[one]}
        assert alike == {one} or alike in same


def test_weights_mode_and_a_training_s_adapter_change_nothing():
    model = built()
    key = fingerprint(model)
    assert key == fingerprint(built()) and fingerprint(model.train()) == key and model.training
    model.adapter = nn.Conv2d(3, 4, 1)
    assert fingerprint(model) == key and model.adapter is not None
    assert fingerprint(built(classes=3)) != key


def gelu(self, x):
    y = self.norm(self.conv(x))
    return F.gelu(y + x if self.adds else y)


def sum_after(self, x):
    y = F.relu(self.norm(self.conv(x)))
    return y + x if self.adds else y


def doubled(self, x):
    y = self.norm(self.conv(x))
    return F.relu(y + y if self.adds else y)


def no_norm(self, x):
    y = self.conv(x)
    return F.relu(y + x if self.adds else y)


def as_it_is_in_other_words(self, x):
    through = self.norm(self.conv(x))
    if self.adds:
        through = through + x
    return torch.nn.functional.relu(through)


@pytest.mark.parametrize("forward", [gelu, sum_after, doubled, no_norm])
def test_another_function_between_the_same_modules_is_another_network(forward, monkeypatch, tmp_path, asked_afresh):
    """ReLU became GELU in students.py: the ids stayed, and old weights were loaded into another network."""
    registry.save_weights(built(), tmp_path / "w.safetensors")
    row = next(
        json.loads(path.read_text()) for path in (FIGURES / "runs").glob("student,arch=patch16-32-o8-s0-*.json")
    )
    run_id = (row["recipe_name"], row["seed"], row["recipe"])
    assert run_ids.other_code(row) == ""
    assert run_ids.run_id_of(*run_id, [row["inputs"][0], registry.spec_key("patch16-32-o8"), None]) == row["run_id"]
    monkeypatch.setattr(students._Block, "forward", forward)
    registry.forget_fingerprints()
    assert fingerprint(built()) != PINNED["student-cpu"] and fingerprint(built("student")) == PINNED["student"]
    assert run_ids.run_id_of(*run_id, [row["inputs"][0], registry.spec_key("patch16-32-o8"), None]) != row["run_id"]
    assert run_ids.other_code(row) == "its network patch16-32-o8 is another now"
    for load in (lambda: registry.load_weights(tmp_path / "w.safetensors"), lambda: registry.shipped("student-cpu")):
        with pytest.raises(InputError, match=r"json: the network '[\w-]+' has changed since these weights"):
            load()


def test_the_same_function_in_other_words_is_the_same_network(monkeypatch):
    monkeypatch.setattr(students._Block, "forward", as_it_is_in_other_words)
    assert fingerprint(built()) == PINNED["student-cpu"]


@pytest.mark.parametrize(
    ("module", "name", "new", "concerned"),
    [
        (networks, "MEAN", (0.0, 0.0, 0.0), "student"),
        (peer_networks, "_resize", lambda x, like: F.interpolate(x, like.shape[-2:], mode="nearest"), "fast-scnn"),
        (nn, "ReLU", lambda inplace=False: nn.GELU(), "student"),
        (nn, "BatchNorm2d", lambda channels: nn.InstanceNorm2d(channels, affine=True), "student-cpu"),
    ],
)
def test_another_constant_helper_or_module_is_another_network(module, name, new, concerned, monkeypatch):
    monkeypatch.setattr(module, name, new)
    assert fingerprint(built(concerned)) != PINNED[concerned]


@pytest.mark.parametrize(("name", "value"), [("eps", 1e-3), ("momentum", 0.5)])
def test_a_setting_of_one_module_counts(name, value):
    model = built()
    setattr(model.encoder.stage0[0].norm, name, value)
    assert fingerprint(model) != PINNED["student-cpu"]


@pytest.mark.parametrize(
    "change",
    [
        lambda model: model.decoder.smooth.append(nn.Dropout(0.1)),
        lambda model: model.decoder.smooth.append(nn.Dropout2d(0.1)),
        lambda model: model.decoder.smooth.append(DropPath(0.1)),
        lambda model: model.decoder.smooth.append(StochasticDepth(0.1, "row")),
        lambda model: model.decoder.smooth.append(Called(lambda x, training: F.dropout(x, 0.1, training))),
        lambda model: model.decoder.smooth.append(Called(lambda x, training: F.dropout2d(x, p=0.1, training=training))),
        lambda model: model.register_parameter("extra", nn.Parameter(torch.zeros(2))),
    ],
)
def test_what_shows_in_training_alone_counts(change):
    model = built()
    change(model)
    assert outputs(model) == outputs(built()) and fingerprint(model) != PINNED["student-cpu"]


class Called(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x, self.training)


@pytest.mark.parametrize("nothing", [nn.Dropout(0.0), DropPath(0.0), nn.Identity(), nn.Sequential()])
def test_what_does_nothing_does_not_count(nothing):
    model = built()
    model.decoder.smooth.append(nothing)
    assert fingerprint(model) == PINNED["student-cpu"]


@pytest.mark.parametrize(
    "name",
    ["student-cpu", *(pytest.param(one, marks=pytest.mark.slow) for one in NAMES if one not in ("student-cpu", "teacher"))],
)
def test_every_innermost_module_has_a_share_in_the_answer(name):
    """A fifth of its neighbour in each channel of one layer is another network. (A factor is not, where a norm follows.)"""
    if name == "segformer-b0":
        pytest.importorskip("transformers")
    model = built(name)
    before = fingerprint(model)
    innermost = [m for m in model.modules() if not list(m.children()) and not isinstance(m, nn.Identity)]
    for module in innermost[:: max(1, len(innermost) // 30)]:
        hook = module.register_forward_hook(lambda _, given, answer: answer + 0.2 * answer.roll(1, 1))
        assert fingerprint(model) != before, module
        hook.remove()
    assert fingerprint(model) == before


def test_an_older_sidecar_means_the_pinned_network(monkeypatch, tmp_path, asked_afresh):
    for classes in (19, 3):
        path = tmp_path / f"{classes}.safetensors"
        registry.save_weights(built(classes=classes), path)
        sidecar = json.loads(path.with_suffix(".json").read_text())
        assert (sidecar.pop("architecture") == PINNED["student-cpu"]) == (classes == 19)
        path.with_suffix(".json").write_text(json.dumps(sidecar))
        assert registry.load_weights(path).arch == "student-cpu"
    monkeypatch.setattr(students._Block, "forward", gelu)
    registry.forget_fingerprints()
    for path in tmp_path.glob("*.safetensors"):
        with pytest.raises(InputError, match="has changed since these weights were saved"):
            registry.load_weights(path)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_a_network_in_another_precision_is_the_same_one(kind, tmp_path):
    registry.save_weights(built().to(kind), tmp_path / "w.safetensors")
    assert json.loads((tmp_path / "w.json").read_text())["architecture"] == PINNED["student-cpu"]
    assert registry.load_weights(tmp_path / "w.safetensors").head.weight.dtype == torch.float32


def test_asking_changes_nothing(asked_afresh):
    model = built().train()
    model(torch.rand(2, 3, 64, 64)).sum().backward()
    before, kept = copy.deepcopy(model.state_dict()), model.head.weight.grad.clone()
    drawn, drawn_by_numpy = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    with torch.autocast("cpu"):
        assert fingerprint(model) == PINNED["student-cpu"]
    registry.spec_key("student-cpu")
    assert torch.equal(torch.random.get_rng_state(), drawn) and (np.random.get_state()[1] == drawn_by_numpy).all()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert model.training and model.decoder.training and torch.equal(model.head.weight.grad, kept)
    assert model.head.weight.requires_grad and model.head.weight.dtype == torch.float32


def test_a_network_that_draws_when_it_answers_has_one_fingerprint():
    model = built()
    model.decoder.smooth.append(Called(lambda x, training: F.dropout(x, 0.5, training=True)))
    told = fingerprint(model)
    torch.rand(1)
    assert told == fingerprint(model) != PINNED["student-cpu"]


def test_a_network_of_one_size_alone_is_told_by_its_shapes(monkeypatch, tmp_path, asked_afresh):
    """After hours of training, weights must be written whatever the encoder."""

    def fixed(self, x):
        raise RuntimeError("takes frames of 224x224 alone")

    monkeypatch.setattr(students._Block, "forward", fixed)
    told = fingerprint(built())
    assert told.startswith("shapes:") and told == fingerprint(built()) != fingerprint(built("student-gpu"))
    assert told != fingerprint(built(classes=3))
    registry.save_weights(built(), tmp_path / "w.safetensors")
    assert registry.load_weights(tmp_path / "w.safetensors").arch == "student-cpu"


def test_a_name_that_is_loaded_twice_is_asked_once(monkeypatch, asked_afresh):
    asked = []
    monkeypatch.setattr(registry.fingerprints, "fingerprint", lambda model: asked.append(model) or PINNED["student-cpu"])
    registry.shipped("student-cpu"), registry.shipped("student-cpu")
    assert len(asked) == 1
    registry.forget_fingerprints()
    registry.shipped("student-cpu")
    assert len(asked) == 2
