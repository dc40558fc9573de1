"""Effect of the byte order of frames: channels first, or channels last as cameras deliver them.

A network answers the same. But a runtime whose convolutions want the channels last makes them so, in and out, for as much time as
some layers take; one that wants blocks of channels makes these from planes. `runtimes` chooses by this table.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from tcseg.bench import busy_machine, latency
from tcseg.deploy.runtimes import FILE_RUNTIMES as RUNTIMES
from tcseg.deploy.runtimes import open_networks
from tcseg.errors import CannotRunError
from tcseg.machine import cpu_name, usable_cores
from tcseg.models.students import CHOSEN
from tcseg.study.measurements.speed.latency import frames_at
from tcseg.study.model_selection import network_of
from tcseg.study.opening import open_study

SIZE = (1024, 512)
MODELS = ("student-cpu", "student-gpu", "lraspp-mv3-large", "ddrnet-23-slim", "fast-scnn")
PRECISIONS = ("fp32", "int8")
LAYOUTS = {"planes": False, "channels last": True}


def measure(out: Path, quick: bool = False, anyway: bool = False) -> pd.DataFrame:
    """Time each network in both orders, all in turns.

    Args:
        out: folder; unused, nothing else is written.
        quick: one small network and size, few frames, and whatever else the machine does.
        anyway: report although the machine is busy.

    Returns:
        model, runtime, precision, n (frames), planes_ms, last_ms (p50 end to end, batch 1), gain (planes_ms / last_ms - 1),
        agreement (share of equal labels, 0..1, over all pixels of all frames), width, height, threads, machine, noise.

    Raises:
        NoisyMachineError: something else keeps the machine busy.
        RuntimeError: a runtime is not installed, or refuses a network.
    """
    study = open_study("procity", "smoke" if quick else "bench")
    size, threads = (128, 64) if quick else SIZE, usable_cores()
    images, calibration = frames_at(study, "val", size, 8), frames_at(study, "train", size, 4)
    before = busy_machine.lowest_noise()
    busy_machine.require_quiet(before, anyway or quick)
    opened = {}
    for name in MODELS[: 1 if quick else None]:
        model, _ = network_of(study, CHOSEN.get(name, name))
        for precision, layout in product(PRECISIONS, LAYOUTS):
            networks = open_networks(model, RUNTIMES, size, threads, precision, calibration, LAYOUTS[layout])
            opened |= {(name, f"{runtime} {layout}", precision): network for runtime, network in networks.items()}
    _, refused = latency.warm_up(opened, images, False)
    if refused:
        raise CannotRunError("; ".join(f"{what}: {why}" for what, why in refused.items()))
    times = latency.take_turns(opened, images, 3 if quick else 300, 0 if quick else 3, not quick, meanwhile := [])
    noise = max(before, busy_machine.spread(meanwhile, tail=25), busy_machine.lowest_noise())
    busy_machine.require_quiet(noise, anyway or quick)
    same = {"width": size[0], "height": size[1], "threads": threads, "machine": cpu_name(), "noise": round(noise, 3)}
    rows = []
    for name, runtime, precision in product(MODELS[: 1 if quick else None], RUNTIMES, PRECISIONS):
        planes, last = ((name, f"{runtime} {layout}", precision) for layout in LAYOUTS)
        ms = [float(np.median(times[key][:, 2])) for key in (planes, last)]
        equal = np.mean([opened[planes](image) == opened[last](image) for image in images])
        row = {"model": name, "runtime": runtime, "precision": precision, "n": len(times[planes])}
        row |= {"planes_ms": round(ms[0], 3), "last_ms": round(ms[1], 3), "gain": round(ms[0] / ms[1] - 1, 4)}
        rows.append(row | {"agreement": round(float(equal), 5)} | same)
    return pd.DataFrame(rows)
