"""Pictures from files: which count, whole or refused, upright."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from tcseg.data.images import (
    bits_used,
    depth_note,
    files_below,
    in_order,
    natural,
    read_header,
    read_rgb,
    read_values,
)
from tcseg.errors import InputError

rng = np.random.default_rng(0)
PICTURE = cv2.GaussianBlur(rng.integers(0, 256, (48, 80, 3), dtype=np.uint8), (5, 5), 0)
SUFFIXES = (".png", ".jpg", ".bmp", ".tif", ".webp", ".ppm")


def encoded(suffix: str, picture: np.ndarray = PICTURE) -> bytes:
    return cv2.imencode(suffix, picture[..., ::-1] if picture.ndim == 3 else picture)[1].tobytes()


# ------------------------------------------------------------------------------------------------ which files


def test_links_are_followed_and_rubbish_is_not_listed(tmp_path: Path):
    real, tree = tmp_path / "disk" / "berlin", tmp_path / "tree"
    for folder in (real, tree / "ulm", tree / "__MACOSX" / "ulm", tree / ".cache"):
        folder.mkdir(parents=True)
        (folder / "a.png").touch()
    for name in ("._a.png", ".DS_Store", "b.PNG", "c.JpEg", "notes.txt"):
        (tree / "ulm" / name).touch()
    (tree / "berlin").symlink_to(real, target_is_directory=True)
    (tree / "ulm" / "loop").symlink_to(tree, target_is_directory=True)
    found = [path.relative_to(tree).as_posix() for path in files_below(tree)]
    assert found == ["berlin/a.png", "ulm/a.png", "ulm/b.PNG", "ulm/c.JpEg"]
    assert [path.name for path in files_below(tree, (".txt",))] == ["notes.txt"]
    (tree / "itself.png").symlink_to(tree / "itself.png")
    assert "itself.png" in [path.name for path in files_below(tree)], "whoever reads it says so"
    (tree / "itself.png").unlink()
    (tmp_path / "linked").symlink_to(tree, target_is_directory=True)
    assert len(files_below(tmp_path / "linked")) == len(found)


def test_natural_order():
    assert sorted(["a10", "a2", "b1"], key=natural) == ["a2", "a10", "b1"]
    assert natural("a01_2") == natural("a1_02")
    assert sorted(["1", "a", "²"], key=lambda name: (natural(name), name))  # a superscript is no number


@pytest.mark.parametrize(
    "names",
    [
        ["cam2_frame2", "cam2_frame10", "cam10_frame2", "cam10_frame10"],
        ["1.5", "1.9", "1.10", "2.1"],
        ["001", "01", "1", "2", "010", "10"],  # equal numbers: in the order of characters
        ["cam01_2", "cam1_2", "cam1_03", "cam02_1"],
        ["f٢", "f١٠", "f11"],  # Arabic digits are digits
        ["a", "a1", "a1b", "b"],
        ["x-1", "x-2", "x_1"],
    ],
)
def test_files_have_one_natural_order_whatever_the_order_they_come_in(names):
    paths = [Path("clip") / f"{name}.png" for name in names]
    rng = np.random.default_rng(0)
    for _ in range(10):
        assert in_order([paths[i] for i in rng.permutation(len(paths))]) == paths


def test_files_of_several_folders_are_in_order_folder_by_folder():
    paths = [Path(name) for name in ("cam2/9.png", "cam2/10.png", "cam10/1.png")]
    assert in_order(reversed(paths)) == paths


# ------------------------------------------------------------------------------------------------ bits


def ramp(bits: int, height: int = 16, width: int = 64) -> np.ndarray:
    """All of a depth's range: (H,W,3) of uint16, lowest values low."""
    levels = np.linspace(0, 2**bits - 1, height * width).round().astype(np.uint16).reshape(height, width)
    return np.stack((levels, levels[::-1], levels[:, ::-1]), 2)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("high", [False, True])
@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_deep_pictures_keep_their_upper_eight_bits(tmp_path: Path, bits, high, grey, suffix):
    values = ramp(bits)[..., 0] if grey else ramp(bits)
    path = tmp_path / f"x{suffix}"
    cv2.imwrite(str(path), (values << (16 - bits) if high else values)[..., ::1 if grey else -1])
    wanted = (values >> (bits - 8)).astype(np.uint8)
    assert np.array_equal(read_rgb(path), wanted[..., None].repeat(3, 2) if grey else wanted)
    note = depth_note(tmp_path)
    assert (f"{bits} bits" in note and "values below" in note) if bits < 16 and not high else note is None
    assert depth_note(path) is None if note is None else str(path) in depth_note(path)


def test_a_folder_of_deep_pictures_is_scaled_alike(tmp_path: Path):
    frames = [ramp(12) // 8, ramp(12), ramp(12) // 5]  # the first is dark: 9 bits of the 12
    for i, frame in enumerate(frames):
        cv2.imwrite(str(tmp_path / f"{i}.png"), frame)
    for i, frame in enumerate(frames):
        assert np.array_equal(read_rgb(tmp_path / f"{i}.png"), (frame >> 4).astype(np.uint8)[..., ::-1])


def test_a_brighter_picture_than_those_looked_at_counts_from_then_on(tmp_path: Path):
    for i in range(40):
        cv2.imwrite(str(tmp_path / f"{i}.png"), ramp(14 if i == 5 else 10))
    assert bits_used(tmp_path / "0.png") == 10
    assert read_rgb(tmp_path / "5.png").max() == 255
    assert bits_used(tmp_path / "0.png") == 14


def test_dark_and_black_pictures_are_not_brightened(tmp_path: Path):
    for name, values in {
        "eight": np.arange(40, dtype=np.uint16)[None].repeat(8, 0) * 257,  # 8 bits spread over 16
        "high": np.arange(200, dtype=np.uint16)[None].repeat(8, 0) << 4,  # a dark picture of 12 upper bits
        "black": np.zeros((8, 8), np.uint16),
    }.items():
        (tmp_path / name).mkdir()
        cv2.imwrite(str(tmp_path / name / "x.png"), values)
        assert np.array_equal(read_rgb(tmp_path / name / "x.png")[..., 0], (values >> 8).astype(np.uint8)), name
    assert depth_note(tmp_path / "absent") is None and depth_note(tmp_path) is None


def test_transparency_of_a_deep_picture_is_dropped(tmp_path: Path):
    values = ramp(12)
    cv2.imwrite(str(tmp_path / "x.png"), np.dstack((values[..., ::-1], np.full(values.shape[:2], 65535, np.uint16))))
    assert np.array_equal(read_rgb(tmp_path / "x.png"), (values >> 4).astype(np.uint8))


# ------------------------------------------------------------------------------------------------ whole


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_whole_file_is_what_opencv_reads(tmp_path: Path, suffix):
    path = tmp_path / f"x{suffix}"
    path.write_bytes(encoded(suffix))
    assert np.array_equal(read_rgb(path), cv2.imread(str(path))[..., ::-1])
    header = read_header(path)
    assert header.size == (80, 48) and header.form == "colour" and header.lossy == (suffix in (".jpg", ".webp"))


def damage(data: bytes) -> dict[str, bytes]:
    middle = len(data) // 2
    return {
        "half": data[:middle],
        "the last bytes": data[:-9],
        "half, then zeros": data[:middle] + bytes(len(data) - middle),
        "a byte changed": data[:middle] + bytes([data[middle] ^ 0x55]) + data[middle + 1 :],
        "nothing": b"",
        "a header": data[:30],
    }


@pytest.mark.parametrize("kind", damage(b"x" * 100))
@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_damage_is_an_error_that_names_the_file(tmp_path: Path, suffix, kind):
    path = tmp_path / f"street{suffix}"
    path.write_bytes(damage(encoded(suffix))[kind])
    with pytest.raises(InputError, match=f"street{suffix}"):
        read_rgb(path)
    if suffix == ".png":
        path.write_bytes(damage(encoded(suffix, PICTURE[..., 0]))[kind])
        with pytest.raises(InputError, match="street.png"):
            read_values(path)


def test_a_jpeg_that_was_cut_off_and_closed_again(tmp_path: Path):
    """Decoders fill the rest with grey and say nothing."""
    path, data = tmp_path / "grey.jpg", encoded(".jpg")
    path.write_bytes(data[: len(data) // 2] + b"\xff\xd9")
    assert cv2.imread(str(path)) is not None
    with pytest.raises(InputError, match="grey.jpg is cut off or damaged"):
        read_rgb(path)


def test_what_is_no_picture_is_named(tmp_path: Path):
    for content, told in {
        b"<html>404</html>": "web page",
        b"version https://git-lfs.github.com/spec/v1\n": "git lfs pull",
        b"\x00" * 64: "cannot be read as a picture",
    }.items():
        (tmp_path / "x.png").write_bytes(content)
        with pytest.raises(InputError, match=told):
            read_header(tmp_path / "x.png")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(InputError, match="broken link"):
        read_rgb(tmp_path / "gone.png")


def test_several_pictures_in_one_file(tmp_path: Path):
    first, second = (Image.fromarray(PICTURE + np.uint8(k)) for k in (0, 1))
    first.save(tmp_path / "two.tif", save_all=True, append_images=[second])
    with pytest.raises(InputError, match="contains 2 pictures"):
        read_rgb(tmp_path / "two.tif")


# ------------------------------------------------------------------------------------------------ upright


@pytest.mark.parametrize("orientation", range(1, 9))
def test_one_rule_of_orientation_for_frames_and_maps(tmp_path: Path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    frame, labels = Image.fromarray(PICTURE), Image.fromarray(PICTURE[..., 0])
    for suffix in (".png", ".jpg", ".tif"):
        path = tmp_path / f"x{suffix}"
        frame.save(path, exif=exif)
        expected = np.asarray(ImageOps.exif_transpose(Image.open(path)).convert("RGB"))
        assert np.array_equal(read_rgb(path), expected), suffix
        assert read_header(path).size == expected.shape[1::-1]
    labels.save(tmp_path / "l.png", exif=exif)
    values = read_values(tmp_path / "l.png")
    assert np.array_equal(values, np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / "l.png"))))
    assert values.shape == read_rgb(tmp_path / "x.png").shape[:2]


# ------------------------------------------------------------------------------------------------ values


def png(width: int, height: int, bits: int, colour: int, rows: bytes, palette: bytes = b"") -> bytes:
    """A PNG, written by hand: libraries spread small grey values over 0..255."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    parts = [chunk(b"IHDR", head), *([chunk(b"PLTE", palette)] if palette else []), chunk(b"IDAT", zlib.compress(rows))]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IEND", b"")


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_grey_of_few_bits_holds_small_numbers(tmp_path: Path, bits):
    per_byte = 8 // bits
    values = np.arange(per_byte, dtype=np.uint8) % 2**bits
    packed = sum(int(v) << (8 - bits * (i + 1)) for i, v in enumerate(values))
    (tmp_path / "x.png").write_bytes(png(per_byte, 1, bits, 0, bytes([0, packed])))
    assert read_values(tmp_path / "x.png").tolist() == [values.tolist()]


def test_a_palette_s_index_is_the_value(tmp_path: Path):
    labels = rng.integers(0, 19, (16, 24), dtype=np.uint8)
    image = Image.fromarray(labels, mode=None)
    image = image.convert("P")
    image.putdata(labels.ravel().tolist())
    image.putpalette(rng.integers(0, 256, 57, dtype=np.uint8).tolist())
    image.save(tmp_path / "x.png")
    assert read_header(tmp_path / "x.png").form == "palette"
    assert np.array_equal(read_values(tmp_path / "x.png"), labels)


def test_a_palette_of_greys_was_made_by_a_program_that_shrinks_files(tmp_path: Path):
    greys = bytes([7, 7, 7, 26, 26, 26, 0, 0, 0])
    (tmp_path / "x.png").write_bytes(png(3, 1, 8, 3, bytes([0, 0, 1, 2]), greys))
    assert read_values(tmp_path / "x.png").tolist() == [[7, 26, 0]]


def test_values_of_16_bits_and_colours_come_as_they_are(tmp_path: Path):
    deep = np.array([[26001, 7, 33000]], np.uint16)
    cv2.imwrite(str(tmp_path / "i.png"), deep)
    assert read_values(tmp_path / "i.png").tolist() == deep.tolist()
    cv2.imwrite(str(tmp_path / "c.png"), PICTURE[..., ::-1])
    assert np.array_equal(read_values(tmp_path / "c.png"), PICTURE)


def test_a_lossy_label_map_is_refused(tmp_path: Path):
    data = io.BytesIO()
    Image.fromarray(PICTURE[..., 0]).save(data, "JPEG")
    (tmp_path / "really.png").write_bytes(data.getvalue())  # the content decides, not the name
    with pytest.raises(InputError, match="really.png is a JPEG, whose compression changes values"):
        read_values(tmp_path / "really.png")


def test_a_file_that_may_not_be_read(tmp_path: Path):
    path = tmp_path / "x.png"
    path.write_bytes(encoded(".png"))
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user reads everything")
    with pytest.raises(InputError, match="cannot be read"):
        read_rgb(path)
