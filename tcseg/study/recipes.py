"""What is trained: the profiles, the six recipes of the ablation, and the variations of its sweeps.

The primary comparison, `consistent` against `student`, was named before any run, and the two longer students before theirs; so were
the sweeps, but for what says otherwise. The recipe itself was settled on earlier runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from tcseg.models.peers import PEERS
from tcseg.models.students import CANDIDATES, CHOSEN
from tcseg.training.recipe import Recipe


@dataclass(frozen=True)
class Profile:
    """How large a study is.

    Attributes:
        size, camvid_size: (W,H) of frames in training and evaluation.
        train_snippets, val_snippets, test_snippets: of procity; at most so many of a real data set (None = all).
        neighbours: training snippets hold the annotated frame and so many on each side.
        labelled_share: of procity's training snippets whose labels are used (real data sets: all).
        teacher_steps, student_steps, camvid_steps, batch, pairs: see `recipe.Recipe`; on CamVid, whose frames are larger,
            students are trained for camvid_steps.
        primary_seeds, seeds: paired seeds of `student` and `consistent`, and of the other recipes.
        bench_sizes, bench_frames: latency measurements.
        tile: (W,H) of the tiles that training frames are cut into (see `tiles`); None = they are not.
    """

    name: str
    size: tuple[int, int]
    camvid_size: tuple[int, int]
    train_snippets: int | None
    val_snippets: int | None
    test_snippets: int
    neighbours: int
    labelled_share: float
    teacher_steps: int
    student_steps: int
    camvid_steps: int
    batch: int
    pairs: int
    primary_seeds: int
    seeds: int
    bench_sizes: tuple[tuple[int, int], ...]
    bench_frames: int
    tile: tuple[int, int] | None = None


PROFILES = {
    "smoke": Profile("smoke", (128, 64), (128, 96), 8, 3, 0, 1, 0.5, 8, 8, 8, 4, 2, 2, 1, ((256, 128),), 30),
    "laptop": Profile(
        "laptop", (256, 128), (480, 352), 160, 24, 6, 2, 0.25, 600, 2000, 1000, 6, 3, 5, 2, ((512, 256), (1024, 512)), 100
    ),
    "full": Profile(
        "full", (1024, 512), (480, 352), None, 108, 30, 2, 1.0, 40_000, 40_000, 40_000, 16, 8, 5, 5,
        ((512, 256), (1024, 512), (2048, 1024)), 500,
    ),
    "bench": Profile(
        "bench", (1024, 512), (480, 352), 160, 12, 0, 0, 1.0, 1000, 1000, 1000, 6, 3, 1, 1, ((1024, 512),), 100, (512, 256)
    ),
}  # fmt: skip
"""smoke, laptop and full are studies. `bench` is for chapter 6's question, which network: at the size that they are timed at, on
stills cut into tiles."""
FULL_PROCITY_SNIPPETS = 1000  # procity is as large as one asks; Cityscapes' own count is 2975

TEMPORAL = 3.0
"""Weight of the temporal loss."""
_STUDENT = Recipe("student", "student", steps=1, label_stride=3, synthetic=1 / 3)
_STEADY = {"temporal": TEMPORAL, "ramp": 0.5}
RECIPES: dict[str, Recipe] = {
    "student": _STUDENT,
    "student+tl": replace(_STUDENT, name="student+tl", **_STEADY),
    "kd": replace(_STUDENT, name="kd", teacher="plain"),
    "kd+tl": replace(_STUDENT, name="kd+tl", teacher="plain", **_STEADY),
    "trajectory": replace(_STUDENT, name="trajectory", teacher="trajectory"),
    "consistent": replace(_STUDENT, name="consistent", teacher="trajectory", **_STEADY),
}
"""teacher {none, plain, trajectory} x temporal loss {off, on}; `consistent_vs_student` is the primary comparison."""
TAUGHT = tuple(name for name, recipe in RECIPES.items() if recipe.teacher != "none")
"""Recipes of the ablation with a teacher: they are compared with each other, so that one training code must have made them all."""
TAUGHT = tuple(name for name, recipe in RECIPES.items() if recipe.teacher != "none")
"""Recipes of the ablation with a teacher: they are compared with each other, so that one training code must have made them all."""
TEACHER = Recipe("teacher", "teacher", steps=1, learning_rate=1.5e-3, pairs=0)
PRIMARY = ("student", "consistent")
SAME_AS_STUDENT = "mnv3s050-48-o4"
LONGER = {"": "", "_2x": ",steps=2x", "_4x": ",steps=4x"}
"""How the plain student is shown: at equal steps, at twice the steps (more minutes than `consistent` takes), at four times."""


NETWORK_LENGTHS = (1.0, 2.0, 4.0, 8.0)
"""Times the profile's steps that the networks of chapter 6 are trained for: twice, but for `TO_THE_END`."""
TO_THE_END = {
    **dict.fromkeys(["patch16s-32-o8", "plain32-64-o8", "fast-scnn", "ddrnet-23-slim", "pidnet-s"], 4.0),
    **dict.fromkeys(["patch16-32-o8", "lraspp-mv3-large"], 8.0),
}
"""Times the profile's steps at most: the two chosen students, the shorter one of a kind, and peers that they are held against."""


@dataclass(frozen=True)
class Variation:
    """A recipe of a sweep: one of the six with something changed.

    Attributes:
        sweep: the question it belongs to; the name of its table.
        base: "teacher", or a key of `RECIPES`.
        change: fields of the recipe -> their values here.
        longer: how many times the profile's steps.
    """

    sweep: str
    base: str
    change: Mapping[str, object] = field(default_factory=dict)
    longer: float = 1.0

    @property
    def name(self) -> str:
        """The base and what is changed, such as "consistent,temporal=1"."""
        words = [
            f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}" for key, value in self.change.items()
        ]
        return ",".join([self.base, *words, *([f"steps={self.longer:g}x"] if self.longer != 1 else [])])


def _sweeps() -> list[Variation]:
    """Every variation, question by question. What equals a recipe of the ablation is not repeated."""
    weights = [Variation("pareto", "consistent", {"temporal": value}) for value in (0.75, 1.5, 6.0, 12.0)]
    forms = [
        Variation("temporal_forms", "kd+tl", {"form": form, "temporal": weight, **more})
        for form, weight, more in (
            ("l2", 12.0, {}),
            ("l2", 12.0, {"balanced": True}),
            ("l2", 12.0, {"stop": "b"}),
            ("l2", 12.0, {"mask": "photometric"}),
            ("js", 12.0, {}),
            ("kl", 6.0, {}),
            ("etc", 0.1, {}),
            ("soft_tc", TEMPORAL, {"gap": 2}),
            ("soft_tc", TEMPORAL, {"ramp": 0.0}),
        )
    ]
    flows = [
        *(Variation("flow_sources", "kd+tl", {"flow": source}) for source in ("dis", "farneback", "zero", "synthetic")),
        Variation("flow_sources", "kd+tl", {"synthetic": 0.0}),
    ]
    methods = [
        Variation("distillation", "kd", {"method": method, "distillation": weight})
        for method, weight in (("kl_unbalanced", 2.0), ("cwd", 3.0), ("dist", 1.0), ("feature", 1.0), ("pf", 2.0))
    ]
    dist = {"method": "dist", "distillation": 1.0}
    methods += [  # after the first seeds: the two most accurate for longer, and the better one in the whole recipe
        Variation("distillation", "kd", longer=2.0),
        Variation("distillation", "kd", dist, 2.0),
        Variation("distillation", "consistent", dist),
    ]
    budgets = [
        Variation("label_budget", base, {"labelled_share": share})
        for share in (1 / 16, 1 / 8, 1 / 2, 1.0)
        for base in ("teacher", "student", "kd", "consistent")
    ]
    budgets += [  # after three seeds at an eighth fell short of the two points that were asked: less weight on steadiness
        Variation("label_budget", "consistent", {"labelled_share": 1 / 8, "temporal": weight}) for weight in (0.75, 1.5)
    ]
    lengths = [
        Variation("schedule", base, longer=times) for times in (0.5, 2.0, 4.0) for base in ("student", "consistent")
    ]
    lengths.append(
        Variation("schedule", "student", longer=8.0)
    )  # `consistent` gained less than half a point at the last
    networks = [
        Variation(sweep, "student", {"arch": name}, longer)
        for longer in NETWORK_LENGTHS
        for sweep, names in (("students", CANDIDATES), ("peers", PEERS))
        for name in names
        if name not in (SAME_AS_STUDENT, "segformer-b0")  # the student itself; half a second a frame
        and longer <= TO_THE_END.get(name, 2.0)
    ]
    others = [
        Variation("other_students", base, {"arch": arch})
        for arch in CHOSEN.values()
        for base in ("student", "consistent")
    ]
    return [*weights, *forms, *flows, *methods, *budgets, *lengths, *others, *networks]


_ALL = _sweeps()
VARIATIONS: dict[str, Variation] = {variation.name: variation for variation in _ALL}
"""Name -> variation, in the order in which they are run."""
ALL_SWEEPS = tuple(dict.fromkeys(variation.sweep for variation in _ALL))
NETWORK_SWEEPS = ("students", "peers")
"""The sweeps of chapter 6, at profile `bench`: which network, not which training."""
ABLATION_SWEEPS = tuple(sweep for sweep in ALL_SWEEPS if sweep not in NETWORK_SWEEPS)
"""The sweeps of chapter 5."""


def variations(*sweeps: str) -> list[Variation]:
    """The variations of some sweeps; two sweeps may share one: `student-cpu` on labels alone is asked for by two chapters."""
    return [variation for variation in _ALL if variation.sweep in sweeps]


def compared(sweep: str) -> dict[str, tuple[str, str]]:
    """What a sweep compares with what, name -> (recipe, base), as `comparisons.PAIRS`.

    A variation is compared with the recipe that it varies, trained as long; one that is trained longer with that of half the steps;
    at each share of labels and each length, the recipes of the ablation with the plain student of the same share or length, and so
    with each network; at each weight of the temporal loss with the plain student, too.
    """
    of_sweep = variations(sweep)
    bases = dict.fromkeys([variation.base for variation in of_sweep] + ["student"] * (sweep == "pareto"))
    as_they_are = [Variation(sweep, base) for base in bases]
    everything = {one.name: one for one in (*as_they_are, *of_sweep) if one.base != "teacher"}
    pairs = [(one.name, base) for one in everything.values() for base in _bases(one) if base in everything]
    return {f"{name}_vs_{base}": (name, base) for name, base in pairs if name != base}


def _bases(one: Variation) -> list[str]:
    """Names of what a variation is compared with, some of which nobody may have asked for."""
    if one.sweep == "label_budget":
        share = {key: value for key, value in one.change.items() if key == "labelled_share"}
        return [replace(one, base="student", change=share).name]
    if one.sweep == "other_students":
        return [replace(one, base="student").name]
    if one.sweep == "schedule":
        return [replace(one, base="student").name, replace(one, longer=one.longer / 2).name]
    if one.sweep == "pareto":
        return [one.base, "student"]
    return [replace(one, change={}).name if one.change else replace(one, longer=one.longer / 2).name]
