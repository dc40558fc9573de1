"""Files that several processes write."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd

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
