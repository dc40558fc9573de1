"""Segmentation networks of the Hugging Face hub, or of a folder saved by transformers, as teachers.

Two families. *Semantic* networks give a logit a class and pixel. *Universal* ones give masks, each with a distribution over the
classes and "none": a class's score is the sum over masks of its probability times the mask's, at the masks' own size, and a cell's
scores are divided by their sum. (transformers' own post-processing of Mask2Former and MaskFormer resizes every mask to 384x384
first, which loses half the rows of a 1024x2048 frame's masks.)

What a checkpoint was trained with is read from its files: the order of its classes, how pixels are normalised, and whether it takes
frames of one size only; such a network looks through windows of that size, which cover the frame. Processors are not used to
resize: some would squash the frame to a square.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from tcseg.adaptation.kinds.answers import Place, digest, digest_files, resize_scores
from tcseg.adaptation.kinds.checkpoint_files import (
    SEMANTIC,
    UNIVERSAL,
    class_names,
    load_network,
    locate,
    read_config,
    read_licence,
    read_scaling,
    require_transformers,
    task_inputs,
)
from tcseg.adaptation.kinds.windows import CANVAS, checked_size, shown_size, window_corners, window_of
from tcseg.errors import InputError
from tcseg.models.trained_on import size_text
from tcseg.video.pipeline import resized

ONE_SIZE = ("beit", "data2vec-vision", "dpt", "eomt", "eomt_dinov3")
"""Their positions are numbered: they take frames of the size of their configuration."""


class TransformersAnswers:
    """A network of transformers as a teacher; see `answers.Answers`.

    Args:
        source: "hf:ORG/NAME", "hf:ORG/NAME@REVISION" or a folder.
        size: at which it sees a frame: the shorter side, or (W,H); None = as its configuration says, else a shorter side of 1024.
        classes: names in the order of its outputs; None = the checkpoint's.
        device: of torch.
        mean, std: of R, G and B, 0..1; None = as its preprocessor says.

    Attributes:
        name, source: short, and with the hub's commit.
        model_type: of its configuration.

    Raises:
        NotFoundError, InputError, CannotRunError: as `teachers.open_teacher`.
    """

    by_name = False

    def __init__(
        self,
        source: str,
        size: int | tuple[int, int] | None = None,
        classes: Sequence[str] | None = None,
        device: str = "cpu",
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        require_transformers()
        folder, self.name, self.source = locate(source)
        config = read_config(folder)
        self.model_type = config["model_type"]
        self.scaling = read_scaling(folder, self.model_type, mean, std)
        self.network, self.device = load_network(folder, self.model_type).to(device), device
        own = class_names(self.network.config.id2label)
        self.classes = tuple(classes) if classes else own
        if len(self.classes) != len(own):
            raise InputError(
                f"classes are {len(self.classes)}, but {self.name} has {len(own)}: name each, in its order"
            )
        self.window = window_of(self.network.config) if self.model_type in ONE_SIZE else None
        self.size = checked_size(size, self.window, self.name)
        self.tasks = task_inputs(folder, self.network.config) if self.model_type == "oneformer" else None
        weights = [
            path for path in folder.iterdir() if path.suffix in (".json", ".safetensors", ".bin") and path.is_file()
        ]
        self.key = digest("transformers", digest_files(weights), self.size, self.scaling, self.classes)
        self.licence = read_licence(folder / "README.md")
        asked = f"a shorter side of {self.size}" if isinstance(self.size, int) else size_text(self.size)
        self.seen = f"{self.model_type} sees {asked}" + (f" in windows of {size_text(self.window)}" if self.window else "")

    def require(self, places: Sequence[Place]) -> None:
        """It answers anything."""

    @torch.inference_mode()
    def __call__(self, frame: np.ndarray, grid: tuple[int, int], place: Place | None = None) -> np.ndarray:
        """As `answers.Answers`."""
        shown = resized(frame, shown_size((frame.shape[1], frame.shape[0]), self.size, self.window))
        planes = self._normalised(shown).to(self.device)
        corners = list(window_corners(shown.shape[1::-1], self.window))
        if len(corners) == 1:
            scores = resize_scores(self._scores(planes), grid)
        else:
            scores = resize_scores(self._stitched(planes, corners), grid)
        if self.model_type in UNIVERSAL:
            scores = scores / scores.sum(0).clamp(min=1e-12)  # all 0 where every mask is: of no class
        return scores.cpu().numpy()

    def _normalised(self, shown: np.ndarray) -> Tensor:
        """A frame uint8 (H,W,3) RGB as the network takes it: float32 (1,3,H,W)."""
        factor, mean, std, blue_first = self.scaling
        pixels = np.ascontiguousarray(shown[..., ::-1] if blue_first else shown)
        planes = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() * factor
        return (planes - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(std).view(1, 3, 1, 1)

    def _scores(self, planes: Tensor) -> Tensor:
        """Scores (K,h,w) of one window (1,3,H,W), at the network's own stride."""
        if self.model_type in SEMANTIC:
            return self.network(pixel_values=planes).logits[0].float().softmax(0)
        more = {} if self.tasks is None else {"task_inputs": self.tasks.to(planes.device)}
        out = self.network(pixel_values=planes, **more)
        return mask_scores(out.class_queries_logits[0].float(), out.masks_queries_logits[0].float())

    def _stitched(self, planes: Tensor, corners: list[tuple[int, int]]) -> Tensor:
        """Mean scores (K,h,w) of windows where they overlap, at stride `CANVAS`."""
        width, height = self.window
        total: Tensor | None = None
        for x, y in corners:
            scores = self._scores(planes[..., y : y + height, x : x + width])
            scores = resize_scores(scores, (width // CANVAS, height // CANVAS))
            if total is None:
                rows, columns = planes.shape[-2] // CANVAS, planes.shape[-1] // CANVAS
                total, count = scores.new_zeros(len(scores), rows, columns), scores.new_zeros(rows, columns)
            here = slice(y // CANVAS, (y + height) // CANVAS), slice(x // CANVAS, (x + width) // CANVAS)
            total[:, *here] += scores
            count[here] += 1
        return total / count


def mask_scores(classes: Tensor, masks: Tensor) -> Tensor:
    """Scores of a universal network: sum over queries of softmax(class)[..., :-1] x sigmoid(mask).

    Args:
        classes: (Q,K+1) logits; the last is "none".
        masks: (Q,h,w) logits.

    Returns:
        (K,h,w), 0 and above; they do not sum to 1.
    """
    return torch.einsum("qk,qhw->khw", classes.softmax(-1)[:, :-1], masks.sigmoid())
