"""Video in, video out: decoding and encoding, the pipeline of threads, filters over time, and a flicker meter."""

import os

# The remarks of OpenCV's backend ("moov atom not found") would stand between ours; read when the first video is opened.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
