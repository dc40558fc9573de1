"""A procedural city: Cityscapes-like driving video with exact labels, depth, flow and visibility, on a laptop CPU.

numpy, OpenCV and numba only. Modules: `textures`, `geometry` (polygons and rigid parts), `street` and `layout` (what
stands where), `props`, `vehicles`, `people` (builders), `traffic` (what moves), `raster`, `shading` and `exact_flow` (numba
kernels), `effects` (camera), `sequence` (random access to frames), `snippet_files` and `writer` (the Cityscapes layout on
disk), `sheet` (a frame and its truth as pictures).
"""

from __future__ import annotations

from tcseg.procity.rendering.effects import EFFECTS
from tcseg.procity.world.style import CITIES

from .sequence import ANNOTATED, FPS, FRAMES, Camera, Frame, Sequence, check_size
from .sheet import flow_colors, panels
from .version import VERSION
from .writer import check, disk_bytes, generate, mend, tree_name

__all__ = [
    "ANNOTATED", "CITIES", "Camera", "EFFECTS", "FPS", "FRAMES", "Frame", "Sequence", "VERSION", "check", "check_size",
    "disk_bytes", "flow_colors", "generate", "mend", "panels", "tree_name",
]  # fmt: skip
