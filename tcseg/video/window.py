"""A window that shows the newest frame; whether one can be opened is checked before any work."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import deque
from contextlib import suppress

import cv2
import numpy as np

from tcseg.errors import CannotRunError


def require_window() -> None:
    """Refuse to go on where no window can be opened.

    Tried in a process of its own, because Qt, which OpenCV mostly opens windows with, ends the process where no display answers.

    Raises:
        RuntimeError: this OpenCV has no windows, or there is no display.
    """
    program = "import cv2; cv2.namedWindow('tcseg'); cv2.waitKey(1)"
    try:
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
        failed, message = done.returncode != 0, done.stderr
    except subprocess.TimeoutExpired:
        failed, message = True, ""
    if "not implemented" in message:
        raise CannotRunError(
            "show needs windows, which this OpenCV is built without; install opencv-python, not -headless"
        )
    if failed:
        display = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
        where = f"display {display!r} does not answer" if display else "there is no display here"
        raise CannotRunError(f"show needs a window, but {where}; write a file instead (out), or run it on a desktop")


class Window:
    """Shows the newest picture. Any thread may offer one; `alive` belongs to the main thread, as OpenCV's windows do."""

    WIDTH = 1280  # pixels, at most, when it opens; its user may resize it

    def __init__(self, title: str) -> None:
        self.title = title
        self._newest: deque[np.ndarray] = deque(maxlen=1)
        self._open = False

    def write(self, picture: np.ndarray) -> None:
        """Offer a picture, uint8 (H,W,3) RGB; one that was not shown yet gives way to it."""
        self._newest.append(picture)

    def alive(self) -> bool:
        """Show what there is and look at the keyboard; False once the user pressed q or Esc, or closed the window."""
        if self._newest:
            picture = self._newest.pop()
            if not self._open:
                self._open_at(picture.shape[1], picture.shape[0])
            cv2.imshow(self.title, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        if not self._open:
            return True
        key = cv2.pollKey() & 0xFF
        return key not in (ord("q"), ord("Q"), 27) and cv2.getWindowProperty(self.title, cv2.WND_PROP_VISIBLE) >= 1

    def _open_at(self, width: int, height: int) -> None:
        cv2.namedWindow(self.title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
        scale = min(1.0, self.WIDTH / width)
        cv2.resizeWindow(self.title, round(width * scale), round(height * scale))
        self._open = True

    def close(self, keep: bool = True) -> None:
        """Close the window."""
        if self._open:
            with suppress(cv2.error):  # its user has closed it
                cv2.destroyWindow(self.title)
            self._open = False
