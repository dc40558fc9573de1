"""The latency protocol: time per frame at batch 1, in three scopes, with runtimes taking turns.

Published frame rates of one network differ by a factor of two, because they leave out different things. Here every
frame goes through preparation, network and label map, one after the other, and each step is timed; the three scopes
are sums of those steps in the same frames, so that their differences mean something:

- `network`: prepared frame -> logits, nothing else;
- `network+argmax`: -> label map at full resolution;
- `end_to_end`: uint8 frame -> uint8 label map, with padding, layout and cropping. Decoding video is not in it.

Models, runtimes and precisions take turns in short rounds, so that a slow minute of the machine affects all of them. On a busy
machine, an error is raised. The time and memory until the first prediction are measured in a separate process (`cold_start`), and
`processes` compares the results of several processes.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle, product
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from tcseg.bench import busy_machine, roofline
from tcseg.bench.cold_start import cold_start
from tcseg.bench.options import BenchOptions
from tcseg.deploy.label_map import padded_size
from tcseg.deploy.runtimes import FILE_RUNTIMES, Network, open_networks, torch_threads, unavailable
from tcseg.deploy.torch_runtimes import DTYPES
from tcseg.errors import CannotRunError, InputError, read_options
from tcseg.machine import cpu_name, gpu_name, usable_cores
from tcseg.models.trained_on import export_size, size_text

if TYPE_CHECKING:
    from tcseg.models.networks import SegmentationModel

log = logging.getLogger(__name__)

SCOPES = ("network", "network+argmax", "end_to_end")
COLUMNS = (
    "machine", "cores", "model", "runtime", "precision", "height", "width", "threads", "scope", "n",
    "p50_ms", "p90_ms", "p99_ms", "max_ms", "fps", "first_ms", "peak_mb", "params_m", "gflop", "mbytes", "roof_share", "noise",
)  # fmt: skip
KEY = ["machine", "model", "runtime", "precision", "height", "width", "threads", "scope"]
"""The columns that identify a row."""
MIN_FRAMES = 30
ROUND = 10  # frames of one model per turn
A_JOB = 0.5  # limit of the spread between rounds; a job on one of two cores doubles the time, a shared host adds a quarter
MIN_ROUNDS = 5  # fewest rounds for a measurement of noise
PAUSE = 0.1  # seconds until the threads of the runtimes and of numpy stop spinning, which would disturb the next measurement
Key = tuple[str, str, str]
"""Model, runtime, precision."""


def time_frame(network: Network, frame: np.ndarray) -> tuple[float, float, float]:
    """Time one frame: milliseconds in each of `SCOPES`."""
    size = (frame.shape[1], frame.shape[0])
    start = time.perf_counter()
    prepared = network.prepare(frame)
    ready = time.perf_counter()
    logits = network.run(prepared)
    answered = time.perf_counter()
    network.finish(logits, size)
    done = time.perf_counter()
    return (answered - ready) * 1e3, (done - ready) * 1e3, (done - start) * 1e3


def summarize(milliseconds: np.ndarray) -> dict[str, float | int]:
    """Times of n frames -> n, p50_ms, p90_ms, p99_ms, max_ms, and fps = 1000 / p50_ms."""
    p50, p90, p99 = np.percentile(milliseconds, [50, 90, 99])
    return {
        "n": len(milliseconds),
        "p50_ms": p50,
        "p90_ms": p90,
        "p99_ms": p99,
        "max_ms": float(np.max(milliseconds)),
        "fps": 1000 / p50,
    }


@contextmanager
def _threads(count: int | None) -> Iterator[int]:
    """Set the number of torch's threads and yield it."""
    count = torch.get_num_threads() if count is None else count
    if not 1 <= count <= usable_cores():
        raise InputError(f"threads is {count}; it must be in 1..{usable_cores()}, the number of cores of this machine")
    with torch_threads(count):
        yield count


def warm_up(
    networks: dict[Key, Network], images: np.ndarray, progress: bool
) -> tuple[dict[Key, Network], dict[str, str]]:
    """Run five frames through each network. Networks that fail here, such as in a compiler, are not measured.

    Returns:
        The networks that run, and the others as name -> reason.
    """
    warm, refused = {}, {}
    for key, network in tqdm(networks.items(), "warm-up", disable=not progress, leave=False):
        try:
            for i in range(5):
                network(images[i % len(images)])
        except Exception as error:
            refused["{} in {} {}".format(*key)] = _in_a_line(error)
        else:
            warm[key] = network
    return warm, refused


def _in_a_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def take_turns(
    networks: dict[Key, Network],
    images: np.ndarray,
    frames: int,
    seconds: float,
    progress: bool,
    meanwhile: list[float] | None = None,
) -> dict[Key, np.ndarray]:
    """Time the networks in turns until each has `frames` frames or `seconds`, but at least `MIN_FRAMES` frames.

    Args:
        networks: the networks, already warmed up.
        images: uint8 (N,H,W,3), used in a cycle.
        frames, seconds: maximum per network.
        progress: show progress bars.
        meanwhile: list to which the time of a fixed computation, in milliseconds, is appended after each round.

    Returns:
        Key -> milliseconds (n,3) by `SCOPES`.
    """
    times: dict[Key, list[tuple[float, float, float]]] = {key: [] for key in networks}
    stream = cycle(images)
    least = min(MIN_FRAMES, frames)
    waiting = set(networks)
    with tqdm(total=frames * len(networks), desc="bench", unit="frame", disable=not progress, leave=False) as bar:
        while waiting:
            for key in [key for key in networks if key in waiting]:
                network, own = networks[key], times[key]
                time_frame(network, next(stream))  # not counted: the caches hold the data of another network
                for _ in range(min(ROUND, frames - len(own))):
                    own.append(time_frame(network, next(stream)))
                    bar.update()
                elapsed = sum(end_to_end for _, _, end_to_end in own) / 1e3
                if len(own) >= frames or (elapsed >= seconds and len(own) >= least):
                    waiting.discard(key)
                    bar.update(frames - len(own))
            if meanwhile is not None:
                time.sleep(PAUSE)
                # The minimum ignores short disturbances.
                meanwhile.append(float(busy_machine.time_fixed_work(ms=0, repeats=9).min()))
                time.sleep(PAUSE)
    return {key: np.array(own) for key, own in times.items()}


def _open(
    models: dict[str, SegmentationModel], size: tuple[int, int], threads: int, options: BenchOptions
) -> tuple[dict[Key, Network], dict[str, str]]:
    """Open every model in every available runtime and precision; also return the missing ones with the reason."""
    opened: dict[Key, Network] = {}
    absent: dict[str, str] = {}
    for name in tqdm(models, "open", disable=not options.progress, leave=False):
        for precision in options.precisions:
            reasons = {runtime: unavailable(runtime, precision, _device(models[name])) for runtime in options.runtimes}
            absent |= {f"{runtime} {precision}": reason for runtime, reason in reasons.items() if reason}
            present = [runtime for runtime in options.runtimes if not reasons[runtime]]
            try:
                calibration = options.calibration
                networks = open_networks(models[name], present, size, threads, precision, calibration) if present else {}
            except Exception as error:  # a converter failed for one network; the others are still measured
                absent |= {f"{name} in {runtime} {precision}": _in_a_line(error) for runtime in present}
                continue
            opened |= {(name, runtime, precision): networks[runtime] for runtime in present}
    return opened, absent


def _device(model: SegmentationModel) -> str:
    return next(model.parameters()).device.type


@dataclass(frozen=True)
class _Measured:
    """Measurements: milliseconds (n,3) per network, facts about the machine, and combinations that could not be measured."""

    times: dict[Key, np.ndarray]
    missing: dict[str, str]
    threads: int
    roof: roofline.Roof
    roofs: dict[tuple[str, str], roofline.Roof]
    cold_starts: dict[str, dict[tuple[str, str], dict[str, float]]]
    noise_before: float
    noise_during: float
    noise_after: float

    @property
    def noise(self) -> float:
        """The largest spread of the fixed computation."""
        return max(self.noise_before, self.noise_during, self.noise_after)


def bench(models: dict[str, SegmentationModel], size: tuple[int, int] | None = None, **options: object) -> pd.DataFrame:
    """Measure the latency of models in several runtimes and precisions, batch 1, in one process.

    Args:
        models: name in the table -> network. PyTorch runs it on its current device, the file runtimes on the CPU.
        size: (W,H) of the frames; None = the training size of the networks (`trained_on.export_size`), or 1024x512.
        options: fields of `BenchOptions`, such as `runtimes=("openvino",)`, `anyway=True`.

    Returns:
        One row per model, runtime, precision and scope, with `COLUMNS`: times in milliseconds; first_ms = load, compile and first
        prediction, peak_mb = memory of that process (10^6 bytes); params_m, gflop, mbytes as in `roofline`; roof_share = time at
        the roof / p50 of the network (for a CPU in fp32, for a GPU in each precision); noise (the spread of a fixed computation,
        the largest of before, after and between the rounds). In `attrs`: `missing` (name -> reason), `times` (key -> milliseconds
        (n,3) by scope), `roof`.

    Raises:
        ValueError: there is no model, the networks have different sizes and none is given, a runtime or precision is unknown,
            images have another size, or there are more threads than cores.
        RuntimeError: none of the combinations is available.
        NoisyMachineError: the machine is busy; if this is found after the measurement, `table` has the results.
    """
    if not models:
        raise InputError("models is empty; pass at least one, such as {'student': shipped('student')}")
    chosen = read_options(BenchOptions, options)
    combinations = product(chosen.runtimes, chosen.precisions, {_device(model) for model in models.values()})
    reasons = [unavailable(*one) for one in combinations]  # raises an error for unknown names before the measurement
    if all(reasons):
        raise CannotRunError(f"no combination can be measured: {'; '.join(dict.fromkeys(reasons))}")
    size = size or _one_size(models)
    chosen = chosen.with_images(size)
    measured = _measure(models, size, chosen)
    table = _tabulate(models, size, chosen, measured)
    busy_machine.require_quiet(measured.noise_after, chosen.anyway, table=table)
    busy_machine.require_quiet(measured.noise_during, chosen.anyway, A_JOB, table)
    return table


def _measure(models: dict[str, SegmentationModel], size: tuple[int, int], options: BenchOptions) -> _Measured:
    """Open all networks, warm them up and time them in turns; measure the noise before, during and after."""
    progress = options.progress
    with _threads(options.threads) as threads:
        before = busy_machine.lowest_noise()
        busy_machine.require_quiet(before, options.anyway)
        networks, missing = _open(models, size, threads, options)
        networks, refused = warm_up(networks, options.images, progress)
        missing |= refused
        if not networks:
            reasons = "; ".join(f"{what}: {why}" for what, why in missing.items())
            raise CannotRunError(f"no combination can be measured: {reasons}")
        for what, reason in missing.items():
            log.warning("not measured: %s: %s", what, reason)
        roof = roofline.measure_cpu()
        on_gpu = any(_device(model) == "cuda" for model in models.values())
        roofs = {(cpu_name(), "fp32"): roof} | (_gpu_roofs(networks) if on_gpu else {})
        meanwhile: list[float] = []
        times = take_turns(networks, options.images, options.frames, options.seconds, progress, meanwhile)
        # A disturbance of less than a quarter of the rounds does not change the median.
        during = busy_machine.spread(meanwhile, tail=25) if len(meanwhile) >= MIN_ROUNDS else 0
        after = busy_machine.lowest_noise()
        cold_starts = {name: _cold_starts(networks, name, threads) for name in models} if options.cold else {}
    return _Measured(times, missing, threads, roof, roofs, cold_starts, before, during, after)


def _tabulate(
    models: dict[str, SegmentationModel], size: tuple[int, int], options: BenchOptions, measured: _Measured
) -> pd.DataFrame:
    """One row per model, runtime, precision and scope; combinations that were not measured have no times."""
    same = {"height": size[1], "width": size[0], "threads": measured.threads}
    same |= {"cores": usable_cores(), "noise": measured.noise}
    rows = []
    for name, model in models.items():
        task = roofline.work(model, padded_size(size))
        for runtime, precision in product(options.runtimes, options.precisions):
            which = {"machine": _machine(model, runtime), "model": name, "runtime": runtime, "precision": precision}
            which |= measured.cold_starts.get(name, {}).get((runtime, precision), {})
            times = measured.times.get((name, runtime, precision))
            rows += _rows(same | which | task._asdict(), times, _least_ms(measured.roofs, which, task))
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    lists = {key: times.tolist() for key, times in measured.times.items()}  # pandas compares attrs, which fails with arrays
    table.attrs |= {"noise": measured.noise, "missing": measured.missing, "times": lists, "roof": measured.roof}
    return table


def _one_size(models: dict[str, SegmentationModel]) -> tuple[int, int]:
    """The common training size of the networks."""
    sizes = {name: export_size(model) for name, model in models.items()}
    if len(set(sizes.values())) > 1:
        trained = ", ".join(f"{name} {size_text(size)}" for name, size in sizes.items())
        raise InputError(f"the models were trained at different sizes ({trained}); pass size (--size) to compare them at one size")
    return next(iter(sizes.values()))


def _gpu_roofs(networks: dict[Key, Network]) -> dict[tuple[str, str], roofline.Roof]:
    """(GPU, precision) -> roof, for each precision that a network uses on the GPU."""
    precisions = {precision for _, runtime, precision in networks if runtime not in FILE_RUNTIMES} & DTYPES.keys()
    try:
        return {(gpu_name(), precision): roofline.measure_gpu(DTYPES[precision]) for precision in precisions}
    except torch.cuda.OutOfMemoryError:  # the roofs are omitted on a small or full GPU
        return {}


def _least_ms(roofs: dict[tuple[str, str], roofline.Roof], which: dict, task: roofline.Work) -> float | None:
    """Lower bound in milliseconds for a row's network on its machine; None if the roof is unknown."""
    roof = roofs.get((which["machine"], which["precision"]))
    return roofline.roof_ms(roof, task, DTYPES[which["precision"]].itemsize) if roof else None


def _rows(same: dict, times: np.ndarray | None, least_ms: float | None) -> list[dict]:
    """One row per scope, without times if the network could not be run."""
    if times is None:
        return [same | {"scope": scope, "n": 0} for scope in SCOPES]
    if least_ms:
        same = same | {"roof_share": least_ms / np.median(times[:, 0])}
    return [same | {"scope": scope} | summarize(times[:, i]) for i, scope in enumerate(SCOPES)]


def _machine(model: SegmentationModel, runtime: str) -> str:
    on_gpu = _device(model) != "cpu" and runtime not in FILE_RUNTIMES
    return gpu_name() or cpu_name() if on_gpu else cpu_name()


def _cold_starts(networks: dict[Key, Network], name: str, threads: int) -> dict[tuple[str, str], dict[str, float]]:
    """Time to the first prediction and peak memory of a model, for each runtime that loads a file."""
    starts = {}
    for (owner, runtime, precision), network in networks.items():
        if owner == name and network.content is not None:
            starts[runtime, precision] = cold_start(network.content, runtime, threads)
    return starts
