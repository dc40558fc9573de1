"""The command that makes a student of one's own: `tcseg adapt`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tcseg.errors import InputError

from .app import app

TEACHER = (
    "hf:ORG/NAME, a folder saved by transformers, X.onnx, maps:DIR (label maps or --probs of tcseg segment), X.safetensors, or a "
    "student that ships."
)


@app.command()
def adapt(
    videos: Annotated[list[str] | None, typer.Argument(help="Video files, and folders of pictures that are video.")] = None,
    teacher: Annotated[str, typer.Option(help=TEACHER)] = ...,
    out: Annotated[Path, typer.Option(help="NAME: writes NAME.safetensors, NAME.json, NAME.md and NAME.mp4.")] = ...,
    arch: Annotated[
        str | None, typer.Option(help="Start from a student that ships (tcseg segment --help). Default: student-cpu.")
    ] = None,
    init: Annotated[Path | None, typer.Option(help="Start from your own NAME.safetensors.")] = None,
    size: Annotated[
        str | None,
        typer.Option(help="Size that the student sees, multiples of 32. Default: the frames' own, at most as in training."),
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps of training. Default: 2000.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Minutes of training, instead of steps.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of order and augmentation.")] = 0,
    stills: Annotated[
        list[str] | None, typer.Option(help="A folder of pictures that do not follow each other; repeatable.")
    ] = None,
    fps: Annotated[float | None, typer.Option(help="Frames per second of folders that are video. Default: 17.")] = None,
    per_second: Annotated[float, typer.Option(help="Moments a second that the teacher is asked about.")] = 2.0,
    held_out: Annotated[float, typer.Option(help="Share of each video, its end, that is not learned from.")] = 0.2,
    score: Annotated[
        list[str] | None, typer.Option(help="A video to score on, instead of the ends that are held out; repeatable.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="Folder of true label maps of some frames, or of your own data: truth is measured, too.")
    ] = None,
    label_classes: Annotated[
        str, typer.Option(help="What these hold: cityscapes, camvid, or a YAML file.")
    ] = "cityscapes",
    teacher_name: Annotated[
        str | None, typer.Option(help="What the teacher is called in the card and the table. Default: where it comes from.")
    ] = None,
    teacher_size: Annotated[
        str | None, typer.Option(help="Size at which the teacher sees a frame: shorter side, or WxH. Default: its own, or 1024.")
    ] = None,
    classes: Annotated[
        str | None, typer.Option(help="Classes of a teacher that does not name them: cityscapes, camvid, or a,b,c.")
    ] = None,
    rename: Annotated[
        list[str] | None, typer.Option(help="THEIRS=OURS for a class with another name (void = none); repeatable.")
    ] = None,
    licence: Annotated[str | None, typer.Option(help="The teacher's licence, where nothing beside it says.")] = None,
    onnx: Annotated[
        list[str] | None, typer.Option(help="layout=, mean=, std= or output= of an ONNX file that does not say; repeatable.")
    ] = None,
    labelled: Annotated[
        Path | None, typer.Option(help="Folder of your own with labels, learned from instead of drawn streets.")
    ] = None,
    replay: Annotated[bool, typer.Option(help="Also learn from drawn streets with labels.")] = True,
    temporal: Annotated[float, typer.Option(min=0, help="Weight of the temporal loss.")] = 3.0,
    light: Annotated[
        float, typer.Option(min=0, max=1, help="Strength of changes of light and sharpness: 1 for other days and cameras.")
    ] = 0.0,
    mixing: Annotated[float, typer.Option(min=0, max=1, help="Share of the frames that get classes of another frame.")] = 0.0,
    work: Annotated[Path | None, typer.Option(help="Folder for the teacher's answers and checkpoints. Default: NAME.work.")] = None,
    table: Annotated[Path | None, typer.Option(help="CSV file to which the rows of this run are added.")] = None,
    film: Annotated[bool, typer.Option(help="Write a film of before and after.")] = True,
) -> None:
    """Adapt a student to your own unlabelled video: it learns a teacher's answers, and to be steady.

    The teacher is asked once, about two moments a second; answers are kept. The end of each video is held out: agreement with the
    teacher and flicker are measured there, before and after. Started again after a kill, it goes on. The weights work with segment,
    export and bench.

    Example: tcseg adapt drive.mp4 --teacher hf:nvidia/segformer-b2-finetuned-cityscapes-1024-1024 --out mine
    """
    from tcseg.adaptation.run import adapt as run

    done = run(
        videos or [], teacher, out, arch=arch, init=init, size=size, steps=steps, minutes=minutes, seed=seed,
        stills=stills or [], fps=fps, per_second=per_second, held_out=held_out, score=score or [], labels=labels,
        label_classes=label_classes, teacher_name=teacher_name, teacher_size=teacher_size,
        classes=classes, rename=_pairs("rename", rename),
        licence=licence, onnx=_pairs("onnx", onnx), replay=replay, labelled=labelled,
        temporal=temporal, light=light, mixing=mixing, work=work, table=table, film=film,
    )  # fmt: skip
    made = [done.weights.name, *(f"{done.weights.stem}{end}" for end in (".json", ".md"))]
    typer.echo(f"{', '.join([*made, *([f'{done.weights.stem}.mp4'] if film else [])])} in {done.weights.parent}")


def _pairs(option: str, given: list[str] | None) -> dict[str, str] | None:
    if not given:
        return None
    for one in given:
        if "=" not in one:
            raise InputError(f"--{option} is {one!r}; write NAME=VALUE")
    return dict(one.split("=", 1) for one in given)
