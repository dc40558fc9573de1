"""The commands that use networks and label maps: `tcseg export`, `bench`, `evaluate`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tcseg.data.frame_size import parse_size
from tcseg.errors import InputError, require_writable, require_writable_file
from tcseg.models.trained_on import export_size, size_text, trained_size, training_of

from .app import DEFAULT, SHIPPED, Device, app, device_of, load_model, real_frames

if TYPE_CHECKING:
    from tcseg.models.networks import SegmentationModel

FRAMES, SECONDS = 500, 10.0  # of a row of the benchmark, whichever is shorter


@app.command()
def export(
    out: Annotated[Path, typer.Argument(help="Output: X.onnx, X.xml (OpenVINO) or X.pt2 (torch.export).")],
    model: Annotated[str | None, typer.Option(help=SHIPPED)] = None,
    weights: Annotated[Path | None, typer.Option(help="Your own NAME.safetensors, with NAME.json in the same folder.")] = None,
    size: Annotated[
        str | None, typer.Option(help="Size of the frames, multiples of 32, such as 256x128. Default: as in training.")
    ] = None,
    scope: Annotated[str, typer.Option(help="network (logits out) or labels (label map out).")] = "network",
    dynamic: Annotated[bool, typer.Option(help="Accept any height and width that are multiples of 32.")] = False,
    frames: Annotated[Path | None, typer.Option(help="Video or folder for the comparison. Default: a data set.")] = None,
    precision: Annotated[str, typer.Option(help="fp32, fp16 (half the size) or int8.")] = "fp32",
    calibrate: Annotated[
        Path | None, typer.Option(help="Video or folder with calibration frames for int8. Default: procity's training streets.")
    ] = None,
    channels_last: Annotated[
        bool,
        typer.Option("--channels-last", help="Take frames (B,H,W,3) and return logits (B,h,w,K): fastest in OpenVINO."),
    ] = False,
    opset: Annotated[
        int | None, typer.Option(help="ONNX opset of an .onnx file, from 16 to 26, for older or newer runtimes. Default: 20.")
    ] = None,
) -> None:
    """Export a student for another runtime.

    The file takes uint8 frames; normalisation is included. Its predictions are compared with PyTorch's before it is saved.
    Beside X.onnx, the command writes a script that runs it without tcseg (X.onnx.py) and its facts (X.onnx.json).
    For the effect of fp16 and int8 on accuracy, see: tcseg measure precision.

    Example: tcseg export student.onnx --scope labels
    """
    from tcseg.deploy import description
    from tcseg.deploy.export import check as check_export
    from tcseg.deploy.export import export as write

    explicit, calibration, calibrated = parse_size(size) if size else None, None, ""
    if calibrate and precision != "int8":
        raise typer.BadParameter(
            f"it is {calibrate}, but {precision} is not calibrated: add --precision int8", param_hint="'--calibrate'"
        )
    network = load_model(model, weights)
    frame_size = explicit or export_size(network)
    check_export(out, description.Contents(frame_size, scope, dynamic, precision, channels_last, opset))
    description.require_free(out)
    require_writable_file("out", out)
    images, where = real_frames(frame_size, 8, frames)
    if precision == "int8":
        from tcseg.study.measurements.quality.precision import calibration_frames

        calibration, source = calibration_frames(frame_size, calibrate)
        calibrated = f"; calibrated on {source}"
    result = write(network, out, images, frame_size, scope, dynamic, precision, calibration, channels_last, opset)
    if precision != "fp32" and not weights and (warning := _warning_against(model or DEFAULT, out, precision)):
        typer.echo(warning, err=True)
    opset_text = f", opset {result.opset}" if result.opset else ""
    typer.echo(
        f"{result.path}: {_takes(network, frame_size, dynamic)}; {training_of(network)}\n"
        f"{result.bytes / 1e6:.2f} MB, {result.scope}, {result.precision}{opset_text}; {result.agreement:.4%} of the "
        f"labels equal PyTorch's on {result.frames} frames of {where}{calibrated}\n"
        f"Without tcseg: python {shlex.quote(str(result.script))} PICTURE; what the file takes and gives: {result.sidecar}"
    )
    if out.suffix == ".xml":
        typer.echo(
            f"Without settings OpenVINO may compute in bf16: then {result.agreement_default:.4%} are equal on this machine. "
            'For the first figure pass {"INFERENCE_PRECISION_HINT": "f32"} to compile_model.'
        )


def _takes(network: SegmentationModel, size: tuple[int, int], dynamic: bool) -> str:
    """Which frames an exported file takes, and which size suits it."""
    known = trained_size(network)
    if dynamic:
        return "takes frames of any size" + (f"; trained at {size_text(known)}, where objects have the right size" if known else "")
    return f"takes frames of {size_text(size)}" + ("" if known else " (change it with --size WxH)")


def _warning_against(name: str, path: Path, precision: str) -> str:
    """Why the committed measurement advises against a shipped student in a precision; empty if it does not."""
    import pandas as pd

    from tcseg.models.students import CHOSEN
    from tcseg.study.measurements.quality.precision import SUFFIXES, refused
    from tcseg.study.paths import measured_table

    try:
        against = refused(pd.read_csv(measured_table("precision")))
    except FileNotFoundError:
        return ""
    runtime = next((one for one, suffix in SUFFIXES.items() if suffix == path.suffix), "")
    why = against.get((CHOSEN.get(name, name), runtime, precision))
    return f"not recommended for {name}: {why}" if why else ""


@app.command()
def bench(
    model: Annotated[
        list[str] | None, typer.Option(help="A shipped student, or the name of a network; repeatable.")
    ] = None,
    weights: Annotated[list[Path] | None, typer.Option(help="Your own NAME.safetensors; repeatable.")] = None,
    size: Annotated[
        list[str] | None,
        typer.Option(
            help="Size of the frames; repeatable. Default: as in training; 1024x512 for untrained networks."
        ),
    ] = None,
    runtime: Annotated[
        list[str] | None,
        typer.Option(help="pytorch, compile, cudagraph, onnxruntime, openvino, ...; repeatable. Default: three of them."),
    ] = None,
    precision: Annotated[list[str] | None, typer.Option(help="fp32, int8, fp16, bf16; repeatable.")] = None,
    frames: Annotated[int, typer.Option(min=1, help="Maximum number of frames per row.")] = FRAMES,
    seconds: Annotated[float, typer.Option(min=0, help="Maximum time per row; at least 30 frames are measured.")] = SECONDS,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads. Default: all cores.")] = None,
    processes: Annotated[
        int, typer.Option(min=1, help="Repeat in this many processes and report their spread.")
    ] = 1,
    cold: Annotated[bool, typer.Option(help="Also measure the time to the first prediction, and memory.")] = False,
    anyway: Annotated[bool, typer.Option(help="Report timings even if the machine is busy.")] = False,
    everything: Annotated[
        bool,
        typer.Option("--all", help="Reproduce the committed tables: all networks, sizes and precisions; also on a GPU."),
    ] = False,
    device: Device = None,
    out: Annotated[Path | None, typer.Option(help="Write the table as CSV.")] = None,
) -> None:
    """Measure the latency of a frame, batch 1.

    Three scopes: the network alone, network + argmax, and end to end (uint8 frame to uint8 label map).

    Example: tcseg bench --size 512x256 --size 1024x512 --runtime onnxruntime --out latency.csv
    """
    import pandas as pd

    from tcseg import atomic_files
    from tcseg.bench.processes import as_text, bench_repeatedly
    from tcseg.deploy.exported_files import RUNTIMES

    options = {"frames": frames, "seconds": seconds, "threads": threads, "cold": cold, "anyway": anyway}
    if everything:
        unused = {"model": model, "weights": weights, "size": size, "runtime": runtime, "precision": precision}
        unused |= {"threads": threads, "cold": cold, "out": out, "device": device}
        unused |= {"frames": frames != FRAMES, "seconds": seconds != SECONDS, "processes": processes != 1}
        _bench_everything([f"--{name}" for name, value in unused.items() if value], anyway)
        return
    options |= {"runtimes": tuple(runtime or RUNTIMES), "precisions": tuple(precision or ["fp32"])}
    if out:
        require_writable_file("out", out)
    sizes = [parse_size(one) for one in size or []]
    networks = _bench_models(model or ([] if weights else ["student"]), weights or [])
    networks = {name: network.to(device_of(device)) for name, network in networks.items()}
    tables = []
    for frame_size, some in _by_size(networks, sizes):
        images, where = real_frames(frame_size, 16, None)
        table = bench_repeatedly(processes, some, frame_size, images=images, **options)
        tables.append(table)
        typer.echo(f"\n{size_text(frame_size)}{'' if sizes else _whose(some)}, frames of {where}")
        typer.echo(as_text(table))
        if out:  # after each size: a later one may be refused
            atomic_files.write_table(out, pd.concat(tables))


def _bench_everything(unused: list[str], anyway: bool) -> None:
    """Make the committed tables again, into the folder of one's own measurements."""
    from tcseg.study.measurements import measure
    from tcseg.study.paths import MEASURED

    if unused:
        raise typer.BadParameter(
            f"it runs the whole benchmark and cannot be combined with {', '.join(unused)}", param_hint="'--all'"
        )
    require_writable(MEASURED, "tcseg measure latency --out FOLDER writes the table elsewhere")
    for name in ("latency", *(["gpu"] if device_of(None).type == "cuda" else [])):
        typer.echo(measure(name, MEASURED, anyway=anyway)[0])


def _by_size(
    networks: dict[str, SegmentationModel], sizes: list[tuple[int, int]]
) -> list[tuple[tuple[int, int], dict[str, SegmentationModel]]]:
    """Which networks are timed at which size: all at the given sizes, or each at its training size."""
    if sizes:
        return [(size, networks) for size in sizes]
    groups: dict[tuple[int, int], dict[str, SegmentationModel]] = {}
    for name, network in networks.items():
        groups.setdefault(export_size(network), {})[name] = network
    return list(groups.items())


def _whose(networks: dict[str, SegmentationModel]) -> str:
    """Why these networks are timed at this size."""
    trained = [name for name, network in networks.items() if trained_size(network)]
    untrained = [name for name in networks if name not in trained]
    warning = (
        f"{', '.join(names)} {what}"
        for names, what in ((trained, "at the training size"), (untrained, "untrained"))
        if names
    )
    return f" ({'; '.join(warning)}; change it with --size WxH)"


def _bench_models(names: list[str], weights: list[Path]) -> dict[str, SegmentationModel]:
    """Shipped students by name, other networks untrained (as fast as trained ones), weights by the name of file or run."""
    from tcseg.models import registry

    networks = {
        name: registry.shipped(name) if name in registry.shipped_names() else registry.build(name, 19, False)
        for name in names
    }
    for path in weights:
        of_a_run = path.stem == "weights"  # as the file of every run is called
        name = path.resolve().parent.name if of_a_run else path.stem
        if name in networks:
            why = f"two networks would have the name {name!r} in the table: rename {path} and its .json"
            raise typer.BadParameter(why, param_hint="'--weights'")
        networks[name] = registry.load_weights(path)
    return networks


@app.command()
def evaluate(
    predictions: Annotated[Path, typer.Option(help="Folder of label maps: one PNG per frame with a class in each pixel.")],
    frames: Annotated[Path | None, typer.Option(help="Folder of the corresponding frames.")] = None,
    labels: Annotated[Path | None, typer.Option(help="Folder of ground truth. Without it, accuracy is not measured.")] = None,
    dataset: Annotated[
        Path | None, typer.Option(help="Folder of your own data, instead of --frames, --labels, --layout and --classes.")
    ] = None,
    flow: Annotated[
        list[str] | None, typer.Option(help="exact, dis, farneback or raft; repeatable, best first. Default: dis.")
    ] = None,
    layout: Annotated[
        str, typer.Option(help="cityscapes (also for procity), camvid, or folder (one folder per clip).")
    ] = "cityscapes",
    classes: Annotated[
        str | None,
        typer.Option(help="cityscapes, camvid, or a YAML file with names, ids and colours. Default: from meta.json or the layout."),
    ] = None,
    train_ids: Annotated[
        bool | None,
        typer.Option("--train-ids/--ids", help="Meaning of the values in the maps. Default: from meta.json, names or values."),
    ] = None,
    stills: Annotated[bool, typer.Option("--stills", help="Treat all frames as single images: measure accuracy only.")] = False,
    step: Annotated[
        int | None, typer.Option(min=1, help="Number difference of neighbouring frames. Default: the most common one.")
    ] = None,
    fps: Annotated[float | None, typer.Option(help="Frames per second, if the files are video.")] = None,
    unit: Annotated[str, typer.Option(help="Unit of the intervals: clip, or city (clips of one city are similar).")] = "clip",
    strict: Annotated[bool, typer.Option("--strict", help="Fail if files are missing, instead of reporting them.")] = False,
    out: Annotated[Path | None, typer.Option(help="Output folder for metrics.csv and metrics.json.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes. Default: one per core, within 4 GB of memory.")] = None,
) -> None:
    """Evaluate label maps of any method: mIoU, TC, flicker, changes along the flow, with 95 % intervals over clips.

    Reports how the maps were read, the number of frames behind each score, and missing files. Clips are read one at a time, so
    memory does not grow with their number. For the files and names of each layout, see notebooks/use.md.

    Example: tcseg evaluate --predictions mine --frames leftImg8bit_sequence/val --labels gtFine/val --out results
    """
    from tcseg.evaluation import label_map_files, label_map_tables
    from tcseg.evaluation.label_map_layouts import Pacing

    if dataset:
        frames, labels, layout, classes = _own_data(dataset, frames, labels, classes)
    if frames is None:
        raise InputError("evaluate needs --frames, the folder of the frames, or --dataset, a folder of your own data")
    options = {"flows": flow or ["dis"], "train_ids": train_ids, "classes": classes, "unit": unit, "strict": strict}
    options |= {"pacing": Pacing(stills, step, fps), "workers": workers, "progress": True}
    if out:
        require_writable(out, "give another folder with --out")
    table, record = label_map_files.evaluate_files(predictions, frames, labels, layout, **options)
    typer.echo(label_map_tables.as_text(table, record))
    if out:
        label_map_tables.write(out, table, record)
        typer.echo(f"{out / 'metrics.csv'}, {out / 'metrics.json'}")


def _own_data(root: Path, frames: Path | None, labels: Path | None, classes: str | None) -> tuple[Path, Path, str, str]:
    """Frames, labels, layout and classes of a folder of one's own; checked."""
    from tcseg.data.own import open_folder
    from tcseg.data.own.layout import CLASSES

    if given := [f"--{n}" for n, v in (("frames", frames), ("labels", labels), ("classes", classes)) if v is not None]:
        raise InputError(f"--dataset {root} says what {given[0]} says; give one of them")
    films = [clip for clip in open_folder(root).clips.values() if clip.film]
    if films:
        raise InputError(f"{films[0].frames[0]} is a film; `tcseg evaluate` reads pictures: write its frames with tcseg data new")
    return root / "frames", root / "labels", "folder", str(root / CLASSES)
