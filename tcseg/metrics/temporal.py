"""Metrics of two frames: temporal consistency (TC), flicker by outcome, and ETC's script as it was released.

Conventions, everywhere here: `flow_ab (2,H,W)` float32 says where a pixel of frame a lies in frame b, in pixels, x first; frame b
is looked up there, *nearest*, never between two labels; a pixel whose flow leaves the frame is dropped; counts are summed over
all pairs of frames, a class's share is taken once, of the sums, and the mean is over classes present in either map. Maps are uint8
(H,W) trainIds, 255 = void. Where frames are labelled, pixels whose label is void in either one are dropped; a void *answer* agrees
with nothing. The kernels run on one core and release the interpreter's lock.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numba import njit

from tcseg.errors import InputError
from tcseg.labels import IGNORE
from tcseg.metrics.segmentation import Overlap, Share, overlap

_kernel = njit(cache=True, nogil=True)
_inline = njit(cache=True, nogil=True, inline="always")


# ------------------------------------------------------------------------------------------------ four ways to warp a label map


def check_flow(labels: np.ndarray, flow: np.ndarray) -> None:
    """Check that a flow matches a label map (H,W).

    Raises:
        ValueError: its shape is not (2,H,W).
    """
    if flow.shape != (2, *labels.shape):
        raise InputError(f"flow is {flow.shape} but the label map {labels.shape}; need (2,H,W) and (H,W)")


def _warped(kernel: Callable[..., None], labels_b: np.ndarray, flow_ab: np.ndarray, dtype: type) -> np.ndarray:
    """What a warping kernel makes of a label map (H,W)."""
    check_flow(labels_b, flow_ab)
    out = np.empty(labels_b.shape, dtype)
    kernel(np.ascontiguousarray(labels_b), as_float32(flow_ab), out)
    return out


@_inline
def _nearest(flow, y, x, height, width):
    """Where pixel (y, x) lands: whether inside the frame, and the row and column nearest to it."""
    to_y, to_x = np.rint(np.float32(y) + flow[1, y, x]), np.rint(np.float32(x) + flow[0, y, x])
    if to_x >= 0 and to_x <= width - 1 and to_y >= 0 and to_y <= height - 1:  # False for nan
        return True, int(to_y), int(to_x)
    return False, 0, 0


@_kernel
def _warp_nearest(labels_b, flow, out) -> None:
    height, width = out.shape
    for y in range(height):
        for x in range(width):
            inside, to_y, to_x = _nearest(flow, y, x, height, width)
            out[y, x] = labels_b[to_y, to_x] if inside else IGNORE


def warp_map(labels_b: np.ndarray, flow_ab: np.ndarray) -> np.ndarray:
    """Warp label map b onto a's grid, to the nearest pixel; `IGNORE` where the flow leaves the frame.

    Args:
        labels_b: (H,W) uint8.
        flow_ab: (2,H,W) float, pixels, x first: where a pixel of a lies in b.

    Raises:
        ValueError: the shapes do not belong together.
    """
    return _warped(_warp_nearest, labels_b, flow_ab, np.uint8)


@_kernel
def _warp_ids(labels_b, flow, out) -> None:
    """Interpolate ids as numbers: the arithmetic of NVIDIA's Resample2d, term by term in its float types."""
    height, width = out.shape
    for y in range(height):
        for x in range(width):
            xf, yf = np.float32(x) + flow[0, y, x], np.float32(y) + flow[1, y, x]
            left, top = np.floor(xf), np.floor(yf)
            alpha, beta = np.float32(xf - left), np.float32(yf - top)
            x0, x1 = max(min(int(left), width - 1), 0), max(min(int(left + 1), width - 1), 0)
            y0, y1 = max(min(int(top), height - 1), 0), max(min(int(top + 1), height - 1), 0)
            value = np.float32((1.0 - alpha) * (1.0 - beta) * np.float32(labels_b[y0, x0]))
            value += np.float32(np.float64(alpha) * (1.0 - beta) * np.float32(labels_b[y0, x1]))
            value += np.float32((1.0 - alpha) * np.float64(beta) * np.float32(labels_b[y1, x0]))
            value += np.float32(np.float32(alpha * beta) * np.float32(labels_b[y1, x1]))
            out[y, x] = value


def warp_ids(labels_b: np.ndarray, flow_ab: np.ndarray) -> np.ndarray:
    """What not to do: interpolate label ids bilinearly as if they were numbers, borders replicated, as ETC's released script does.

    Returns:
        float32 (H,W): between road (0) and car (13) lies 6.5.
    """
    return _warped(_warp_ids, labels_b, flow_ab, np.float32)


@_kernel
def _warp_votes(labels_b, flow, out) -> None:
    height, width = out.shape
    weights = np.zeros(256, np.float32)
    for y in range(height):
        for x in range(width):
            xf, yf = np.float32(x) + flow[0, y, x], np.float32(y) + flow[1, y, x]
            if not (xf >= -0.5 and xf < width - 0.5 and yf >= -0.5 and yf < height - 0.5):
                out[y, x] = IGNORE
                continue
            left, top = int(np.floor(xf)), int(np.floor(yf))
            best = 255
            for down in range(2):
                for right in range(2):
                    label = labels_b[min(max(top + down, 0), height - 1), min(max(left + right, 0), width - 1)]
                    weights[label] += abs(1 - right - (xf - left)) * abs(1 - down - (yf - top))
                    if weights[label] > weights[best] or (weights[label] == weights[best] and label < best):
                        best = label
            out[y, x] = best
            for down in range(2):
                for right in range(2):
                    weights[labels_b[min(max(top + down, 0), height - 1), min(max(left + right, 0), width - 1)]] = 0


def warp_votes(labels_b: np.ndarray, flow_ab: np.ndarray) -> np.ndarray:
    """One-hot maps warped bilinearly, then the best class: the four neighbours vote with their bilinear weights.

    Returns:
        uint8 (H,W); `IGNORE` where the flow leaves the frame; the smallest id wins a tie.
    """
    return _warped(_warp_votes, labels_b, flow_ab, np.uint8)


def as_float32(flow: np.ndarray) -> np.ndarray:
    """A flow as the kernels take it."""
    return np.ascontiguousarray(flow, np.float32)


WARPS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "nearest": warp_map,
    "one-hot, bilinear, best class": warp_votes,
    "ids, bilinear, rounded": lambda ids, flow: np.rint(warp_ids(ids, flow)).astype(np.uint8),
    "ids, bilinear, cut (ETC's script)": lambda ids, flow: warp_ids(ids, flow).astype(np.uint8),
}
"""Four ways to bring a label map onto another frame: name -> function(labels_b, flow_ab)."""


# ------------------------------------------------------------------------------------------------ one pair of frames


def temporal_overlap(map_a: np.ndarray, map_b_on_a: np.ndarray, mask: np.ndarray, num_classes: int) -> Overlap:
    """Counts behind temporal consistency: map a against map b warped onto a, over the pixels of a mask.

    TC (Varghese et al. 2020; Liu et al. 2020) is `.miou()` of these counts, summed over all pairs first. This is the definition
    in one line; `count_pair` gives the same numbers in one pass for all masks at once.
    The TC of a perfect model is below 1, because borders are quantised: also report the TC of the true labels as the ceiling.
    """
    return overlap(np.where(mask, map_a, np.uint8(IGNORE)), map_b_on_a, num_classes)


@_inline
def outcome(truth, before, after) -> int:
    """The outcome of a pixel whose true class stays the same, from the predictions before and after."""
    if before == truth:
        return 0 if after == truth else 1  # steady and right; spoiled: right -> wrong
    if after == truth:
        return 2  # healed: wrong -> right
    return 4 if after == before else 3  # stuck: the same mistake again; wandering: wrong -> another mistake


@dataclass(frozen=True)
class Flicker:
    """Counts of the visible pixels whose true class stays the same, by `outcome`."""

    steady: int = 0
    spoiled: int = 0
    healed: int = 0
    wandering: int = 0
    stuck: int = 0

    def shares(self) -> dict[str, Share]:
        """Metric -> share.

        flicker: of such pixels, those whose answer changes. harmful_flicker: of those right before, wrong after. healed: of those
        wrong before, right after. wandering: of those wrong before, wrong after in another way.
        """
        changed = self.spoiled + self.healed + self.wandering
        right, wrong = self.steady + self.spoiled, self.healed + self.wandering + self.stuck
        return {
            "flicker": Share(changed, right + wrong),
            "harmful_flicker": Share(self.spoiled, right),
            "healed": Share(self.healed, wrong),
            "wandering": Share(self.wandering, wrong),
        }


@_kernel
def _count_pair(map_a, map_b, flow, visible, labels_a, labels_b, labelled, band, joint, outcomes) -> None:
    """Add one pair to joint (4, K+1, K+1), by visible + 2 * band, and, where visible, to outcomes (5,)."""
    height, width = map_a.shape
    beyond = joint.shape[1] - 1
    for y in range(height):
        for x in range(width):
            inside, to_y, to_x = _nearest(flow, y, x, height, width)
            if not inside:
                continue
            before, after = map_a[y, x], map_b[to_y, to_x]
            zone = int(visible[y, x])
            if labelled:
                truth, truth_b = labels_a[y, x], labels_b[to_y, to_x]
                if truth == IGNORE or truth_b == IGNORE:
                    continue
                if zone and truth == truth_b:
                    outcomes[outcome(truth, before, after)] += 1
                zone += 2 * int(band[y, x])
            joint[zone, min(before, beyond), min(after, beyond)] += 1


@dataclass(frozen=True)
class PairCounts:
    """Counts of one pair of frames.

    Attributes:
        joint: int64 (4, K+1, K+1), class in a, class in b: hidden, visible, hidden in the band, visible in the band.
        flicker: None where a frame has no labels.
    """

    joint: np.ndarray
    flicker: Flicker | None

    def overlaps(self) -> dict[str, Overlap]:
        """TC's variants -> counts: visible pixels; all; and, where labelled, visible ones in the boundary band and outside it."""
        hidden, seen, hidden_band, band = self.joint
        found = {"tc": seen + band, "tc_unmasked": hidden + seen + hidden_band + band}
        if self.flicker is not None:
            found |= {"tc_boundary": band, "tc_interior": seen}
        return {name: Overlap.from_confusion(joint) for name, joint in found.items()}


def count_pair(
    map_a: np.ndarray,
    map_b: np.ndarray,
    flow_ab: np.ndarray,
    visible: np.ndarray,
    num_classes: int,
    truth: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None,
) -> PairCounts:
    """Compare the predictions for two frames along the flow, in one pass.

    Args:
        map_a, map_b: uint8 (H,W) answers.
        flow_ab: (2,H,W).
        visible: bool (H,W), what of a is seen in b.
        num_classes: K.
        truth: labels of a and of b, uint8 (H,W), and a's boundary band, bool (H,W); None where they are not labelled.

    Raises:
        ValueError: the flow has another size.
    """
    check_flow(map_a, flow_ab)
    joint, outcomes = np.zeros((4, num_classes + 1, num_classes + 1), np.int64), np.zeros(5, np.int64)
    labels_a, labels_b, band = truth or (map_a, map_b, visible)
    arrays = (np.ascontiguousarray(x) for x in (map_a, map_b, as_float32(flow_ab), visible, labels_a, labels_b))
    _count_pair(*arrays, truth is not None, np.ascontiguousarray(band), joint, outcomes)
    return PairCounts(joint, Flicker(*outcomes.tolist()) if truth else None)


@_kernel
def _count_like_etc(map_a, warped, intersection, in_a, in_b) -> None:
    """The script's histograms: bins of width one, the last one closed, so that an id K is counted as K-1."""
    last = intersection.size - 1
    for i in range(map_a.size):
        before, after = map_a[i], np.uint8(warped[i])
        if after == IGNORE:
            continue
        if before <= last + 1:
            in_a[min(before, last)] += 1
            if before == after:
                intersection[min(before, last)] += 1
        if after <= last + 1:
            in_b[min(after, last)] += 1


def etc_compat(map_a: np.ndarray, map_b: np.ndarray, flow_ab: np.ndarray, num_classes: int) -> Overlap:
    """Counts of ETC's released `tool/eval_tc.py` (Liu et al. 2020): ids warped bilinearly and cut, no mask, borders replicated.

    Sum them over pairs and take `etc_score`. For comparison with published numbers only: see `WARPS` for what is wrong with it.
    """
    intersection, in_a, in_b = (np.zeros(num_classes, np.int64) for _ in range(3))
    _count_like_etc(np.ravel(map_a), np.ravel(warp_ids(map_b, flow_ab)), intersection, in_a, in_b)
    return Overlap(intersection, in_b, in_a)


def etc_score(counts: Overlap) -> float:
    """The script's mean: over all K classes, an absent one counting zero (union + 1e-10 below the line)."""
    union = counts.predicted + counts.labelled - counts.intersection
    return float(np.mean(counts.intersection / (union + 1e-10)))
