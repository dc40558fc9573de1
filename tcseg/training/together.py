"""One training in several processes of one machine, each with a GPU or some cores: the steps are those of one process.

The recipe's batch is divided. Each process draws and augments its share, and its copy of the network answers it. What is of the
whole batch stays so: batch normalisation takes its mean and variance over all frames, and the losses are computed from the answers
of all processes. So the loss does not depend on how the batch is divided, all processes know it, and one that is not finite stops
all.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import cache
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
from accelerate import Accelerator, PartialState
from torch import Tensor
from torch.overrides import TorchFunctionMode

from tcseg.data.augmentation import Clip
from tcseg.data.clips import Clips, annotated_frame, labelled_subset
from tcseg.data.flow_sources import with_flow
from tcseg.errors import InputError
from tcseg.models.networks import SegmentationModel
from tcseg.training import loop, losses
from tcseg.training.recipe import Recipe, compute_losses
from tcseg.training.schedule import one_cycle
from tcseg.training.shares import Share, draw_share, whole

PATIENCE = timedelta(days=30)  # the others wait while the first process makes data, targets and scores


# ------------------------------------------------------------------------------------------------ the processes


def processes() -> int:
    """How many processes torchrun or accelerate launch has started; 1 without them."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def precision() -> str:
    """Of the network in training on this machine: "bf16" on a GPU, else "fp32"."""
    return "bf16" if torch.cuda.is_available() else "fp32"


@cache
def connect() -> dist.ProcessGroup:
    """Join the other processes. Returns the group that `tell` and `hear` use: on the CPU, so that nobody waits on a GPU."""
    PartialState(cpu=not torch.cuda.is_available(), timeout=PATIENCE)
    return dist.new_group(backend="gloo", timeout=PATIENCE)


def is_first() -> bool:
    """Whether this is the process that writes."""
    return int(os.environ.get("RANK", "0")) == 0


def tell(word: object) -> None:
    """Give a word to the other processes, which `hear` it. The first process alone calls this."""
    dist.broadcast_object_list([word], src=0, group=connect())


def hear() -> object:
    """Wait for the next word of the first process."""
    heard = [None]
    dist.broadcast_object_list(heard, src=0, group=connect())
    return heard[0]


def leave() -> None:
    """End what `connect` began."""
    dist.destroy_process_group()


def require_divisible(recipe: Recipe, count: int) -> None:
    """Refuse a recipe whose batch is too small for so many processes, and processes on several machines.

    Raises:
        InputError: the message says how many are possible.
    """
    most = min(recipe.batch, recipe.pairs) if recipe.needs_pairs else recipe.batch
    if count > most:
        of = f"{recipe.batch} frames" + (f" and {recipe.pairs} pairs" if recipe.needs_pairs else "")
        raise InputError(f"processes are {count}; {recipe.name} has {of} a step: start {most} at most (--nproc-per-node)")
    here = int(os.environ.get("LOCAL_WORLD_SIZE", count))
    if here != count:
        raise InputError(f"processes are {count}, of which {here} are on this machine; start all on one machine (--nnodes 1)")


# ------------------------------------------------------------------------------------------------ the network


class _Sum(torch.autograd.Function):
    """The sum over all processes. Each computes the same loss, so that a gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        total = x.contiguous().clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total


class SharedNormalisation(TorchFunctionMode):
    """Within it, batch normalisation in training takes mean and variance over the frames of all processes.

    torch's SyncBatchNorm does so on GPUs alone, and asks for other modules in the network.
    """

    def __torch_function__(self, function: Callable, types: object, args: tuple = (), kwargs: dict | None = None) -> object:
        """Replace one function."""
        answer = _batch_norm if function is F.batch_norm else function
        return answer(*args, **(kwargs or {}))


def _batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """`F.batch_norm` over the frames of all processes."""
    if not training:
        return F.batch_norm(x, running_mean, running_var, weight, bias, training, momentum, eps)
    over, column = [axis for axis in range(x.ndim) if axis != 1], (1, -1, *[1] * (x.ndim - 2))
    values = x.float()
    own = torch.cat([values.mean(over), values.var(over, correction=0), values.new_tensor([x.numel() / x.shape[1]])])
    every = own.new_zeros(dist.get_world_size(), len(own)).index_copy(0, own.new_tensor([dist.get_rank()]).long(), own[None])
    means, variances, counts = _Sum.apply(every).split([x.shape[1], x.shape[1], 1], 1)  # a row a process
    count = counts.sum()
    mean = (counts * means).sum(0) / count
    variance = (counts * (variances + (means - mean).square())).sum(0) / count
    result = (values - mean.view(column)) * torch.rsqrt(variance + eps).view(column)
    if weight is not None:
        result = result * weight.view(column) + bias.view(column)
    if running_mean is not None:
        with torch.no_grad():
            running_mean.lerp_(mean.detach(), momentum)
            running_var.lerp_(variance.detach() * count / (count - 1), momentum)
    return result.to(x.dtype)


def losses_of(network: torch.nn.Module, own: list[Clip], recipe: Recipe, share: Share, *more: object) -> dict[str, Tensor]:
    """`compute_losses` of the whole batch, of which this process has a part.

    Args:
        network: its copy.
        own: this process's clips.
        recipe, share: the whole batch, and which part is its own.
        more: class weights, device, offset and share of the steps, as `compute_losses` takes them.
    """
    device, totals = more[1], (recipe.batch, recipe.pairs)[: len(own)]
    frames = torch.cat([clip.frames.flatten(0, 1) for clip in own]).to(device)
    seen = recipe.temporal > 0 and (recipe.mask == "photometric" or recipe.form == "etc")  # these losses look at the pairs
    size = tuple(own[0].frames.shape[-2:]) if seen else (1, 1)
    shapes = (size, None if seen else size)
    batch = [whole(clip, share, total, device, shape) for clip, total, shape in zip(own, totals, shapes, strict=False)]
    places, before = [], 0
    for clip, total in zip(own, totals, strict=True):
        length, part = clip.frames.shape[1], share.of(total)
        places.append(torch.arange(before + part.start * length, before + part.stop * length, device=device))
        before += total * length
    mine = torch.cat(places)

    def of_all(answers: Tensor) -> Tensor:
        return _Sum.apply(answers.new_zeros(before, *answers.shape[1:]).index_copy(0, mine, answers))

    def answer(_: Tensor, features: bool = False) -> Tensor | tuple[Tensor, ...]:
        with SharedNormalisation():
            answers = network(frames, features=True) if features else network(frames)
        return tuple(map(of_all, answers)) if features else of_all(answers)

    return compute_losses(answer, batch, recipe, *more)


# ------------------------------------------------------------------------------------------------ the training


def train(
    recipe: Recipe,
    clips: Clips,
    folder: Path,
    targets: Tensor | None = None,
    features: Tensor | None = None,
    checkpoint_seconds: float = 15.0,
    log_every: int = 20,
) -> tuple[SegmentationModel, dict[str, float]]:
    """`loop.train` in several processes, each of which calls it with the same arguments. The first one writes log and checkpoint.

    Returns:
        The model in eval mode on the CPU, in each process; its cost, with `processes`, in the first, and {} in the others.

    Raises:
        InputError: the batch is too small, or the checkpoint in `folder` is of another training or number of processes.
        FloatingPointError: the loss is not finite; in all processes.
    """
    if recipe.needs_pairs:
        clips = with_flow(clips, recipe.flow, recipe.gap)
    lesson = loop.Lesson(clips, labelled_subset(clips, recipe.labelled_share), targets, features)
    connect()
    gpu = torch.cuda.is_available()
    accelerator = Accelerator(cpu=not gpu, mixed_precision="bf16" if gpu else "no")
    share = Share(accelerator.process_index, accelerator.num_processes)
    require_divisible(recipe, share.count)
    model = loop.untrained(recipe, lesson, None)
    rates = {"lr": recipe.learning_rate, "weight_decay": recipe.weight_decay}
    optimizer = torch.optim.AdamW(model.parameters(), fused=True, **rates)
    checkpoint, key = folder / "checkpoint.safetensors", loop.training_key(recipe, lesson, None, share.count)
    start, seconds = _restore(checkpoint, key, model, optimizer)
    model, optimizer = accelerator.prepare(model, optimizer)
    model.train()
    steps, cost = _steps(recipe, lesson, model, optimizer, accelerator, start), {}
    if share.rank:
        for _ in steps:
            pass
    else:
        progress = loop._Progress(recipe, start, seconds, log_every, checkpoint_seconds)
        with loop._Log(folder / "log.jsonl", start) as log:
            for step, parts in steps:
                progress.log(step, parts, optimizer.param_groups[0]["lr"], log)
                if progress.due():
                    bare = accelerator.unwrap_model(model)
                    loop.save_checkpoint(checkpoint, bare, optimizer.optimizer, step + 1, progress.elapsed(), key)
        cost = {**progress.cost(), "processes": share.count}
    trained = accelerator.unwrap_model(model).cpu().eval()
    trained.adapter = None
    return trained, cost


def _restore(path: Path, key: str, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> tuple[int, float]:
    """(steps done, seconds spent) of the checkpoint, which must be of this training."""
    if not path.exists():
        return 0, 0.0
    if reason := loop.why_foreign(path, key):
        raise InputError(f"{path} {reason}; start as many processes as before, or remove it")
    return loop.load_checkpoint(path, model, optimizer)


def _steps(
    recipe: Recipe,
    lesson: loop.Lesson,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    accelerator: Accelerator,
    start: int,
) -> Iterator[tuple[int, dict[str, Tensor]]]:
    """Do the steps from `start` on; yields each step and its losses after the update, the same in each process."""
    share, device = Share(accelerator.process_index, accelerator.num_processes), accelerator.device
    truth = torch.from_numpy(lesson.clips.labels[lesson.chosen, annotated_frame(lesson.clips)])
    weights = losses.class_weights(truth, lesson.clips.label_set.num_classes, recipe.balance).to(device)
    steps = range(start, recipe.steps)
    for step, (own, offset) in zip(steps, _shares(recipe, lesson, steps, share, device.type != "cpu"), strict=True):
        for group in optimizer.param_groups:
            group["lr"] = one_cycle(step, recipe.steps, recipe.learning_rate)
        parts = losses_of(model, own, recipe, share, weights, device, offset, step / recipe.steps)
        if not torch.isfinite(parts["loss"]):
            raise FloatingPointError(f"{recipe.name}: loss is {parts['loss'].item()} at step {step}; lower learning_rate")
        optimizer.zero_grad()
        accelerator.backward(parts["loss"])
        optimizer.step()
        yield step, parts


def _shares(
    recipe: Recipe, lesson: loop.Lesson, steps: range, share: Share, ahead: bool
) -> Iterator[tuple[list[Clip], tuple[int, int]]]:
    """Each step's share; `ahead`: drawn in a thread while the step before it is computed."""
    if not ahead:
        yield from (draw_share(recipe, lesson, step, share) for step in steps)
        return
    with ThreadPoolExecutor(1) as thread:
        drawn = [thread.submit(draw_share, recipe, lesson, step, share) for step in steps[:1]]
        for step in steps:
            this = drawn.pop().result()
            drawn = [thread.submit(draw_share, recipe, lesson, step + 1, share)] if step + 1 < steps.stop else []
            yield this
