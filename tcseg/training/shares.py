"""The parts of a batch that several processes draw, and the whole that is made of them."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
import torch.distributed as dist
from torch import Tensor

from tcseg.data.augmentation import LABELLED_VIEW, Clip, _choose, augment, sample_labelled
from tcseg.data.clips import Clips
from tcseg.training import loop
from tcseg.training.recipe import Recipe


@dataclass(frozen=True)
class Share:
    """Which part of a batch is a process's own."""

    rank: int
    count: int

    def of(self, total: int) -> slice:
        """Its part of so many, as even as can be."""
        return slice(total * self.rank // self.count, total * (self.rank + 1) // self.count)


def draw_share(recipe: Recipe, lesson: loop.Lesson, step: int, share: Share) -> tuple[list[Clip], tuple[int, int]]:
    """A process's part of the step's batch, as `loop.draw_batch` gives a whole one, and the lattice's offset, which all share.

    All processes choose the batch's clips by the same numbers, so that none comes twice, and then look at their own by numbers of
    their own.
    """
    choose = loop._generator(recipe.seed, step, 0, 4)
    draws = [loop._generator(recipe.seed, step, share.rank, stream) for stream in range(4)]
    labelled = _choose(torch.tensor(lesson.chosen), recipe.batch, choose)[share.of(recipe.batch)].tolist()
    row, column = torch.randint(0, recipe.label_stride, (2,), generator=choose).tolist()
    own = [augment(sample_labelled(lesson.clips, labelled, len(labelled), draws[0]), LABELLED_VIEW, draws[1])]
    if recipe.needs_pairs:
        chosen = _choose(torch.arange(len(lesson.clips)), recipe.pairs, choose)
        own.append(_draw_pairs(recipe, lesson, chosen, share, draws[2:]))
    return own, (row, column)


def _draw_pairs(recipe: Recipe, lesson: loop.Lesson, chosen: Tensor, share: Share, draws: list[torch.Generator]) -> Clip:
    """A process's pairs; of the whole batch's, the last are moved stills, as many as the recipe says."""
    mine = share.of(recipe.pairs)
    n_synthetic = recipe.pairs if lesson.clips.flow is None else round(recipe.synthetic * recipe.pairs)
    own_synthetic = max(0, mine.stop - max(mine.start, recipe.pairs - n_synthetic))
    count, index = mine.stop - mine.start, chosen[mine]
    part = replace(recipe, pairs=count, synthetic=own_synthetic / count)
    targets, features = (None if given is None else given[index] for given in (lesson.targets, lesson.features))
    return loop._draw_pairs(part, loop.Lesson(_some(lesson.clips, index), [], targets, features), *draws)


def _some(clips: Clips, index: Tensor) -> Clips:
    """Some of the clips."""
    rows = index.numpy()
    flows = {name: (flow[rows], visible[rows]) for name, (flow, visible) in clips.flows.items()}
    names = [clips.names[row] for row in rows]
    arrays = {name: getattr(clips, name)[rows] for name in ("frames", "labels", "annotated")}
    return replace(clips, flows=flows, names=names, backward=None, **arrays)


def whole(own: Clip, share: Share, total: int, device: torch.device, shape: tuple[int, int] | None) -> Clip:
    """The batch's labels, flow, targets and so on from all shares.

    Args:
        own: this process's part.
        share, total: which part, of how many clips.
        device: of the result.
        shape: (H,W) of the result's frames. They are empty: each process answers its own. None = the true frames.
    """
    parts = {field.name: getattr(own, field.name) for field in fields(Clip) if getattr(own, field.name) is not None}
    empty = own.frames.new_zeros(()).expand(total, *own.frames.shape[1:3], *(shape or (1, 1)))
    if shape is not None:
        del parts["frames"]
    return Clip(**{"frames": empty, **{name: _of_all(part.to(device), share.of(total), total) for name, part in parts.items()}})


def _of_all(part: Tensor, where: slice, total: int) -> Tensor:
    small = {torch.bool: torch.uint8, torch.int64: torch.uint8}  # masks and labels
    full = torch.zeros(total, *part.shape[1:], dtype=small.get(part.dtype, part.dtype), device=part.device)
    full[where] = part
    dist.all_reduce(full)
    return full.to(part.dtype)
