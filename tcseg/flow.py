"""Optical flow: warping, visibility, estimators, synthetic motion, reading KITTI files.

Convention (everywhere in tcseg): `flow_ab (B,2,H,W)`, x first, in pixels of the current grid, says where a pixel of frame a
lies in frame b. `warp(x_b, flow_ab)` brings b's content onto a's grid (backward warping, as in ETC, Liu et al. 2020).
A pixel's centre is at +0.5 (`align_corners=False`), so integer pixel indices differ by whole pixels and zero flow is the identity.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tcseg.errors import CannotRunError, InputError

FlowPair = tuple[np.ndarray, np.ndarray]
"""Flow of every pair of frames, float16 (..,T-1,2,H,W), and what is visible, bool (..,T-1,H,W)."""

METHODS = ("dis", "farneback", "zero", "raft")


def pixel_grid(height: int, width: int, device: torch.device | str = "cpu") -> Tensor:
    """Pixel indices (2,H,W) float32, x first."""
    y, x = torch.meshgrid(
        torch.arange(height, device=device, dtype=torch.float32),
        torch.arange(width, device=device, dtype=torch.float32),
        indexing="ij",
    )
    return torch.stack((x, y))


def _targets(flow_ab: Tensor) -> tuple[Tensor, Tensor]:
    """Where each pixel of a lands in b, (B,2,H,W), and whether that is inside b's pixel centres, (B,H,W)."""
    height, width = flow_ab.shape[-2:]
    target = flow_ab.float() + pixel_grid(height, width, flow_ab.device)
    x, y = target[:, 0], target[:, 1]
    return target, (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)


def _check(x: Tensor, flow_ab: Tensor, name: str) -> None:
    if flow_ab.ndim != 4 or flow_ab.shape[1] != 2:
        raise InputError(f"flow_ab has shape {tuple(flow_ab.shape)}; it must be (B,2,H,W)")
    if x.shape[0] != flow_ab.shape[0] or x.shape[-2:] != flow_ab.shape[-2:]:
        raise InputError(
            f"{name} is {tuple(x.shape)} but flow_ab is {tuple(flow_ab.shape)}; batch, height and width must agree: "
            "resize the flow with resize_flow, which scales its values too"
        )


def warp(x_b: Tensor, flow_ab: Tensor) -> tuple[Tensor, Tensor]:
    """Warp b onto a, bilinearly: out(p) = x_b(p + flow_ab(p)).

    Args:
        x_b: (B,C,H,W) float; frames or probabilities, never label ids.
        flow_ab: (B,2,H,W) pixels, x first.

    Returns:
        The warped x_b (B,C,H,W), zero where the flow leaves the frame, and `inside` (B,H,W) bool.

    Raises:
        ValueError: shapes disagree.
    """
    _check(x_b, flow_ab, "x_b")
    height, width = x_b.shape[-2:]
    target, inside = _targets(flow_ab)
    # grid_sample wants -1..1 over pixel *borders* when align_corners=False: index i has its centre at (2i+1)/n - 1.
    size = torch.tensor([width, height], device=target.device, dtype=target.dtype).view(1, 2, 1, 1)
    grid = ((2 * target + 1) / size - 1).permute(0, 2, 3, 1).to(x_b.dtype)
    warped = F.grid_sample(x_b, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return warped * inside[:, None], inside


def visibility(flow_ab: Tensor, flow_ba: Tensor) -> Tensor:
    """Pixels of a that are visible in b, by the forward-backward check of Sundaram et al. 2010 as in Lai et al. 2018.

    A pixel is occluded where |w_ab + w_ba(p + w_ab)|^2 > 0.01 (|w_ab|^2 + |w_ba|^2) + 0.5, or where its flow leaves the frame.

    Args:
        flow_ab, flow_ba: (B,2,H,W) pixels.

    Returns:
        (B,H,W) bool, True = visible.
    """
    back, inside = warp(flow_ba.float(), flow_ab.float())
    gap = (flow_ab + back).square().sum(1)
    size = flow_ab.square().sum(1) + back.square().sum(1)
    return inside & (gap <= 0.01 * size + 0.5)


def compose(flow_ab: Tensor, flow_bc: Tensor, visible_ab: Tensor, visible_bc: Tensor) -> tuple[Tensor, Tensor]:
    """Flow a -> c and its visibility from two steps: w_ac(p) = w_ab(p) + w_bc(p + w_ab(p)).

    Args:
        flow_ab, flow_bc: (B,2,H,W) pixels.
        visible_ab, visible_bc: (B,H,W) bool.
    """
    onward, inside = warp(flow_bc, flow_ab)
    seen, _ = warp(visible_bc[:, None].float(), flow_ab)
    return flow_ab + onward, visible_ab & inside & (seen[:, 0] > 0.99)


def resize_flow(flow: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize (B,2,H,W) to size = (W,H) and scale its values to the new pixels."""
    width, height = size
    scale = torch.tensor([width / flow.shape[-1], height / flow.shape[-2]], device=flow.device, dtype=flow.dtype)
    resized = F.interpolate(flow, (height, width), mode="bilinear", align_corners=False)
    return resized * scale.view(1, 2, 1, 1)


@cache
def _raft() -> torch.nn.Module:
    from torchvision.models.optical_flow import Raft_Large_Weights, raft_large

    try:
        return raft_large(weights=Raft_Large_Weights.C_T_SKHT_V2).eval()
    except OSError as error:  # urllib's URLError is one
        raise CannotRunError(
            "flow 'raft' needs torchvision's weights, which are neither cached nor downloadable here "
            f"({error}); use 'dis', or place raft_large_C_T_SKHT_V2-ff5fadd5.pth in torch.hub's checkpoints folder"
        ) from error


def _estimate_raft(frame_a: np.ndarray, frame_b: np.ndarray) -> np.ndarray:
    height, width = frame_a.shape[:2]
    if height % 8 or width % 8 or min(height, width) < 128:
        raise InputError(f"frame is {width}x{height}; RAFT needs sides that are multiples of 8 and at least 128")
    pair = torch.from_numpy(np.stack((frame_a, frame_b))).permute(0, 3, 1, 2).float() / 127.5 - 1  # RAFT wants -1..1
    with torch.no_grad():
        return _raft()(pair[:1], pair[1:])[-1][0].numpy()


def estimate(method: str, frame_a: np.ndarray, frame_b: np.ndarray) -> np.ndarray:
    """Estimate the flow from a to b.

    Args:
        method: "dis" (Kroeger et al. 2016, preset medium), "farneback" (2003), "raft" (Teed and Deng 2020), or "zero".
        frame_a, frame_b: uint8 (H,W,3) RGB.

    Returns:
        float32 (2,H,W), pixels, x first.

    Raises:
        ValueError: unknown method, or frames of different size.
        RuntimeError: RAFT's weights cannot be had.
    """
    if method not in METHODS:
        raise InputError(f"flow method is {method!r}; it must be one of {', '.join(METHODS)}")
    if frame_a.shape != frame_b.shape:
        raise InputError(f"frames differ in size: {frame_a.shape} and {frame_b.shape}")
    if method == "zero":
        return np.zeros((2, *frame_a.shape[:2]), np.float32)
    if method == "raft":
        return _estimate_raft(frame_a, frame_b)
    gray_a, gray_b = (cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (frame_a, frame_b))
    if method == "dis":
        # A new object each time: it keeps buffers, and two threads on one crash.
        flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(gray_a, gray_b, None)
    else:
        flow = cv2.calcOpticalFlowFarneback(gray_a, gray_b, None, 0.5, 4, 15, 3, 5, 1.2, 0)
    return np.ascontiguousarray(flow.transpose(2, 0, 1), np.float32)


def estimated_flow(frames: np.ndarray, method: str) -> tuple[FlowPair, FlowPair]:
    """Estimate flow of one clip both ways, with its forward-backward visibility.

    Args:
        frames: uint8 (T,3,H,W).
        method: see `flow.estimate`.

    Returns:
        t -> t+1 and t+1 -> t, each float16 (T-1,2,H,W) and bool (T-1,H,W).
    """
    images = [np.ascontiguousarray(frame.transpose(1, 2, 0)) for frame in frames]
    pairs = list(zip(images, images[1:], strict=False))
    forward = np.stack([estimate(method, a, b) for a, b in pairs])
    backward = np.stack([estimate(method, b, a) for a, b in pairs])
    a, b = torch.from_numpy(forward), torch.from_numpy(backward)
    seen, seen_back = visibility(a, b).numpy(), visibility(b, a).numpy()
    return (forward.astype(np.float16), seen), (backward.astype(np.float16), seen_back)


def synthetic_motion(batch: int, size: tuple[int, int], generator: torch.Generator, strength: float = 0.06) -> Tensor:
    """Random small homographies: exact flow for a single image, as if a moving camera saw a plane.

    Args:
        batch: B.
        size: (W,H).
        generator: a CPU generator.
        strength: how far a corner moves at most, as a share of the width.

    Returns:
        Homographies (B,3,3) that take pixel indices of frame a to those of frame b.
    """
    width, height = size
    corners = torch.tensor([[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]], dtype=torch.float32)
    shared = torch.rand(batch, 1, 2, generator=generator) - 0.5  # a pan that all corners share
    own = torch.rand(batch, 4, 2, generator=generator) - 0.5
    moved = corners + strength * width * (1.2 * shared + 0.8 * own)
    return torch.stack([
        torch.from_numpy(cv2.getPerspectiveTransform(corners.numpy(), one.numpy())).float() for one in moved
    ])  # fmt: skip


def homography_flow(homographies: Tensor, size: tuple[int, int]) -> Tensor:
    """Flow a -> b of a homography (B,3,3) on pixel indices: (B,2,H,W), exact."""
    width, height = size
    grid = pixel_grid(height, width)
    points = torch.cat((grid, torch.ones(1, height, width))).reshape(3, -1)
    moved = homographies @ points
    moved = (moved[:, :2] / moved[:, 2:]).reshape(-1, 2, height, width)
    return moved - grid


def read_kitti(path: Path | str) -> tuple[np.ndarray, np.ndarray]:
    """Read a KITTI 16-bit flow PNG (Menze and Geiger 2015).

    Returns:
        flow float32 (2,H,W) in pixels (steps of 1/64), and valid (H,W) bool.

    Raises:
        ValueError: the file is not a readable 16-bit colour PNG.
    """
    png = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if png is None or png.dtype != np.uint16 or png.ndim != 3:
        raise InputError(
            f"{path} is not a readable KITTI flow file (16-bit, 3-channel PNG); delete it and make it again"
        )
    flow = (png[..., :0:-1].astype(np.float32) - 2**15) / 64  # OpenCV hands out B,G,R = valid,v,u
    return np.ascontiguousarray(flow.transpose(2, 0, 1)), png[..., 0] > 0
