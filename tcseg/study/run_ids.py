"""Run ids: a hash of a recipe, its data, its network, and the code that trains it; and how a committed record differs from today.

A formatted file or an edited plot changes no id; a changed loss changes all of them.
"""

from __future__ import annotations

import ast
import hashlib
import json
import sys
from functools import cache

from tcseg.errors import PACKAGE, TcsegError
from tcseg.models import registry

TRAINING_CODE = (
    "labels",
    "flow",
    "training.losses",
    "training.temporal_losses",
    "data.clip_files",
    "data.clips",
    "data.flow_sources",
    "data.augmentation",
    "models.networks",
    "training.teacher_targets",
    "training.recipe",
    "training.schedule training.loop",
)
EVALUATION_CODE = (
    "labels",
    "flow",
    "data.clip_files",
    "data.clips",
    "models.networks",
    "deploy.label_map",
    "metrics.segmentation",
    "metrics.temporal",
    "metrics.trajectories",
    "evaluation.split_scores",
)
"""Modules whose code decides a network, and its scores. The order counts, and names do not: modules that stand in one entry
are read as the one file that they were when the committed rows were trained."""

SAME_CODE: dict[str, str] = {}
"""Key of today's training code -> key of the code that trained the committed rows, where both train the same network.

An entry is a claim: that training the first seeds of the six recipes again gives the committed scores to the last digit.
"""
UNTAUGHT = {"fedc9e69aedd": "0b5db49ea082"}
"""The same for recipes without a teacher alone: between these two, only what a teacher says of moved stills has changed. Shown by
training `teacher` (two threads, as it was), `student` and `student+tl` (one) of procity, laptop, seed 0: all counts are equal."""
EARLIER = {
    "fedc9e69aedd": {"0b5db49ea082": "where a moved still shows nothing, the first frame's class was taught"},
}
"""Key of today's training code -> earlier codes of which committed rows are still shown -> what differs. These are rows of sweeps,
which are trained again when the method has settled. After any other edit, which has no entry, all rows are stale."""

EVALUATED = {
    "f7ccc3ea29ce": "label maps by the kernel of 24 November, in as many threads as there are cores",
    "a758bc197b6f": "label maps by a kernel in one thread",
    "274ce2cba43f": "label maps by a kernel that vectorises",
    "ca667b0bbf20": "label maps by that kernel, which finds the classes that may win a row at a time",
    "caad094b286e": "label maps by that kernel, its scratch memory one longer than a row",
    "14933a67872e": "label maps by that kernel; messages, and the files that a split leaves out",
}
"""Key of the code that scored committed rows -> what differs: of all it consists of, `label_map.py` alone, whose kernels upsample
the logits and take the best class, each faster than the one before; for the last, messages and checks of files: `student`, scored
again, has equal counts. Found with git, commit by commit of the rows."""


class _Normalised(ast.NodeTransformer):
    """Docstrings are prose, and imports say where a thing lies: both may change without making a run stale."""

    def visit_Import(self, node: ast.Import) -> None:  # noqa: N802
        """Where a name comes from decides nothing."""

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:  # noqa: N802
        """Where a name comes from decides nothing."""

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        if getattr(node, "type_params", None) == []:  # which Python 3.12 gives every function and class
            del node.type_params
        body = getattr(node, "body", None)
        if isinstance(body, list):
            kept = [n for n in body if not (isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant))]
            node.body = kept or [ast.Pass()]
        return node


def _tree(modules: list[str]) -> ast.Module:
    """One syntax tree of modules, one after the other."""
    trees = [ast.parse((PACKAGE / f"{name.replace('.', '/')}.py").read_text()) for name in modules]
    return ast.Module([statement for tree in trees for statement in tree.body], [])


@cache
def code_key(modules: tuple[str, ...]) -> str:
    """Hash of modules' syntax trees: formatting, comments, docstrings and imports do not count, nor which Python reads them."""
    options = {"show_empty": True} if sys.version_info >= (3, 13) else {}  # as every Python before wrote them
    trees = [ast.dump(_Normalised().visit(_tree(entry.split())), **options) for entry in modules]
    key = hashlib.sha256("\n".join(trees).encode()).hexdigest()[:12]
    return SAME_CODE.get(key, key)


def digest(value: object) -> str:
    """Eight hex digits of a JSON-able value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:8]


def earlier() -> dict[str, str]:
    """Earlier training codes of which committed rows are still shown -> how their networks differ from today's."""
    return EARLIER.get(code_key(TRAINING_CODE), {})


def codes() -> tuple[str | None, ...]:
    """Training codes whose rows are looked for, one after the other: None = today's, then earlier ones."""
    return (None, *earlier())


def training_code(recipe: dict) -> str:
    """The key of the code that trains a recipe today, or of the committed code that trains the same network."""
    key = code_key(TRAINING_CODE)
    return UNTAUGHT.get(key, key) if recipe.get("teacher", "none") == "none" else key


def run_id_of(name: str, seed: int, recipe: dict, inputs: object) -> str:
    """Name, seed and a hash of all that decides the result."""
    return f"{name}-s{seed}-{digest([recipe, inputs, training_code(recipe)])}"


def id_of(record: dict) -> str:
    """The run id that a record's recipe, inputs and training code make; it is the record's own, or the record was altered."""
    key = digest([record["recipe"], record["inputs"], record["training_code"]])
    return f"{record['recipe_name']}-s{record['seed']}-{key}"


def other_code(record: dict, code: str | None = None) -> str:
    """How the code that trained a record differs from `code` (None = today's), or its network from today's; else empty."""
    expected, theirs = code or training_code(record.get("recipe", {})), record.get("training_code")
    if theirs is not None and SAME_CODE.get(theirs, theirs) != expected:
        return f"trained by code {theirs}, which is now {expected}"
    then = next((one for one in record.get("inputs") or () if isinstance(one, str) and "Spec(" in one), None)
    if then is None:
        return ""
    arch = record["recipe"]["arch"]
    try:
        same = then == registry.spec_key(arch)
    except TcsegError:  # no network of that name, or not on this machine
        return ""
    return "" if same else f"its network {arch} is another now"
