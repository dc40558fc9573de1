"""Images and label maps in files: complete and upright, with a clear error for files that cannot be read.

Four rules apply to every folder of pictures. All subfolders are searched and links are followed, but hidden files and the folders
of archives and file servers (`__MACOSX`, `@eaDir`) are skipped. A truncated or damaged file is an error, even if a decoder would
fill the missing part with grey. Pictures are rotated as their metadata says (EXIF orientation). Pictures with 10, 12 or 14 bits in
16-bit files are scaled by the number of bits that their folder uses (`bits_used`).
"""

from __future__ import annotations

from .bit_depth import bits_used, depth_note
from .decoding import read_rgb, read_values
from .headers import Header, read_header
from .listing import IMAGES, files_below, in_order, is_hidden, natural
from .whole_files import require_whole

__all__ = [
    "IMAGES", "Header", "bits_used", "depth_note", "files_below", "in_order", "is_hidden", "natural", "read_header", "read_rgb",
    "read_values", "require_whole",
]  # fmt: skip
