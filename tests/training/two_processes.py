"""Trainings in two processes of a CPU, which talk through gloo; for test_together.py, which reads what they leave in a folder.

    python two_processes.py FOLDER

torch is imported once, and the processes are forked before it has computed anything: torchrun would import it three times.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).parents[1]))
from toys import toy_clips  # noqa: E402

from tcseg.data.augmentation import join  # noqa: E402
from tcseg.training import loop, together  # noqa: E402
from tcseg.training.recipe import Recipe  # noqa: E402
from tcseg.training.shares import Share, draw_share  # noqa: E402

# AdamW's first steps have the size of the rate, whatever the gradient's: at the usual 4e-3, rounding alone moves a loss by 1e-2.
TOY = Recipe("toy", "student", steps=6, batch=3, pairs=3, learning_rate=1e-4)
TAUGHT = replace(TOY, teacher="trajectory", temporal=1.0, synthetic=1 / 3, ramp=0.5)
RECIPES = {
    "plain": TOY,
    "taught": TAUGHT,
    "etc": replace(TAUGHT, steps=3, form="etc", temporal=0.1, method="dist"),
    "features": replace(TAUGHT, steps=3, method="feature"),
}
KILLED_AT = 4


def targets(recipe: Recipe) -> dict[str, torch.Tensor]:
    """Random answers of a teacher."""
    numbers = torch.Generator().manual_seed(0)
    soft = torch.randint(0, 255, (6, 3, 19, 8, 16), dtype=torch.uint8, generator=numbers)
    features = torch.randn(6, 3, 128, 4, 8, generator=numbers).half()
    return {"targets": soft, "features": features if recipe.needs_features else None}


def whole_batch(recipe: Recipe, lesson: loop.Lesson, step: int, rank: int = 0) -> tuple:
    """What two processes draw, in the place of `loop.draw_batch`."""
    shares = [draw_share(recipe, lesson, step, Share(rank, 2)) for rank in (0, 1)]
    return [join(*both) for both in zip(*(own for own, _ in shares), strict=True)], shares[0][1]


def in_processes(count: int, work: Callable[[], None], folder: Path) -> list[int]:
    """Do work in some processes; their exit codes (minus the signal). When one is killed, so are the others, as by torchrun."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = {}
    for rank in range(count):
        if not (child := os.fork()):
            ids = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "MASTER_PORT": port}
            os.environ |= {name: str(value) for name, value in ids.items()} | {"MASTER_ADDR": "127.0.0.1"}
            try:
                work()
                os._exit(0)
            except BaseException as error:
                folder.mkdir(parents=True, exist_ok=True)
                (folder / f"error-{rank}.txt").write_text(f"{type(error).__name__}: {error}\n{traceback.format_exc()}")
                os._exit(1)
        children[child] = rank
    codes = [0] * count
    while children:
        child, status = os.wait()
        codes[children.pop(child)] = os.waitstatus_to_exitcode(status)
        if os.waitstatus_to_exitcode(status) < 0:
            for other in children:
                os.kill(other, signal.SIGKILL)
    return codes


def training(name: str, recipe: Recipe, folder: Path, train: Callable = together.train, **more: object) -> Callable[[], None]:
    """A training whose log and weights (of each process) lie in a folder afterwards."""

    def work() -> None:
        folder.mkdir(parents=True, exist_ok=True)
        model, cost = train(recipe, toy_clips(), folder, **targets(recipe), log_every=1, **more)
        rank = os.environ["RANK"]
        save_file({key: value.contiguous() for key, value in model.state_dict().items()}, folder / f"{rank}.safetensors")
        (folder / f"cost-{rank}.json").write_text(json.dumps(cost))

    return work


def killed(recipe: Recipe, folder: Path) -> Callable[[], None]:
    """A training of which the second process is killed at a step."""

    def work() -> None:
        real = together.losses_of

        def losses_of(network, own, recipe, share, *more):
            if share.rank == 1 and round(more[-1] * recipe.steps) == KILLED_AT:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(network, own, recipe, share, *more)

        together.losses_of = losses_of
        training("killed", recipe, folder, checkpoint_seconds=0.0)()

    return work


def alone(recipe: Recipe, folder: Path) -> Callable[[], None]:
    """The training of one process with the batch of both."""

    def work() -> None:
        loop.draw_batch = whole_batch
        for name in ("WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "LOCAL_WORLD_SIZE"):
            del os.environ[name]
        training("alone", recipe, folder, loop.train)()

    return work


def main(folder: Path) -> None:
    """All trainings, and the exit codes of their processes in codes.json."""
    codes = {}
    for name, recipe in RECIPES.items():
        codes[name] = in_processes(2, training(name, recipe, folder / name), folder / name)
        codes[f"{name}-alone"] = in_processes(1, alone(recipe, folder / f"{name}-alone"), folder / f"{name}-alone")
    one = folder / "killed"
    codes["killed"] = in_processes(2, killed(TAUGHT, one), one)
    (folder / "log-when-killed.jsonl").write_bytes((one / "log.jsonl").read_bytes())
    codes["one of two"] = in_processes(1, training("killed", TAUGHT, one), folder / "refused")
    codes["again"] = in_processes(2, training("killed", TAUGHT, one), one)
    infinite = replace(TOY, learning_rate=float("inf"))
    codes["not finite"] = in_processes(2, training("infinite", infinite, folder / "infinite"), folder / "infinite")
    codes["too many"] = in_processes(4, training("many", TOY, folder / "many"), folder / "many")
    (folder / "codes.json").write_text(json.dumps(codes))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))
