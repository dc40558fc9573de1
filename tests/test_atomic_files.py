"""Files that several processes write, that are damaged, or for which there is no room."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from tcseg.atomic_files import append_rows, read_object, read_table
from tcseg.errors import InputError

ADD = """
import sys
from pathlib import Path
import pandas as pd
from tcseg.atomic_files import append_rows
for i in range(15):
    append_rows(Path(sys.argv[1]), pd.DataFrame({"who": [int(sys.argv[2])], "i": [i]}))
"""


def test_rows_of_several_processes_are_all_kept(tmp_path: Path) -> None:
    path = tmp_path / "new" / "rows.csv"
    writers = [subprocess.Popen([sys.executable, "-c", ADD, str(path), str(who)]) for who in range(3)]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    table = pd.read_csv(path)
    assert len(table) == 45 and table.groupby("who")["i"].apply(list).tolist() == [list(range(15))] * 3


LIMITED = """
import resource, sys
from pathlib import Path
import numpy as np, pandas as pd
from safetensors.numpy import save_file
from tcseg.atomic_files import replacing, write_json, write_table
from tcseg.errors import CannotWriteError
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
folder = Path(sys.argv[1])
def tensors(path):
    with replacing(path) as partial:
        save_file({"a": np.zeros(10_000)}, partial)
writers = {
    "a.json": lambda path: write_json(path, ["text"] * 1000),
    "b.csv": lambda path: write_table(path, pd.DataFrame({"x": range(1000)})),
    "c.safetensors": tensors,
}
for name, write in writers.items():
    (folder / name).write_text("before")
    try:
        write(folder / name)
    except CannotWriteError as error:
        print(error)
"""


@pytest.mark.skipif(os.name != "posix", reason="limits of a process")
def test_a_full_disk_is_told_and_what_was_there_stays(tmp_path: Path) -> None:
    """A file may not grow beyond a kilobyte: to the program this is a quota, or a disk without room."""
    done = subprocess.run([sys.executable, "-c", LIMITED, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 3, done.stdout
    names = ("a.json", "b.csv", "c.safetensors")
    for name, line in zip(names, lines, strict=True):
        assert line.startswith(f"{tmp_path / name} cannot be written (") and "ile too large" in line
        assert line.endswith(": free some space, or give another folder")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == dict.fromkeys(names, "before")


def test_objects_and_tables_that_are_damaged_are_named(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    for text, why in (("{", "Expecting"), ("[]", "it holds no object"), ('{"a": "1"}', "a is '1'"), ("{}", "a is 'None'")):
        path.write_text(text)
        with pytest.raises(InputError, match=rf"x.json is damaged \({why}.*\); remove it"):
            read_object(path, "remove it", a=int)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=r"x.json is damaged \('utf-8' codec"):
        read_object(path, "remove it")
    path.write_text('{"a": 1}')
    assert read_object(path, "remove it", a=int) == {"a": 1}

    table = tmp_path / "x.csv"
    for content in (b"", b"a,b\n1,2,3\n1\n4,5,6,7\n", b"a\n\xff\n"):
        table.write_bytes(content)
        with pytest.raises(InputError, match=r"x.csv is damaged \(.*\); restore or remove it"):
            read_table(table)


def test_rows_are_not_added_to_another_table(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("<html>\n404\n")
    with pytest.raises(InputError, match=r"x.csv has none of the columns seed, miou; restore it"):
        append_rows(path, pd.DataFrame({"seed": [1], "miou": [0.5]}))
    assert path.read_text() == "<html>\n404\n"
