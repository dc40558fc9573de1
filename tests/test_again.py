"""How to make each committed table again."""

import json
import re

import pandas as pd

from tcseg.again import EXPECTED, again_table
from tcseg.study import FIGURES


def test_every_committed_measurement_and_sweep_says_how_to_make_it_again():
    table = again_table(FIGURES)
    rows = [line.strip("| ").split(" | ") for line in table.splitlines()[2:]]
    assert all(len(row) == 4 and row[3].strip() and "nan" not in row[3] for row in rows)
    named = set(re.findall(r"`(\w+\.csv)`", table))
    made = set(json.loads((FIGURES / "provenance.json").read_text())["files"])
    assert {f"{name}.csv" for name in EXPECTED if f"tables/{name}.csv" in made} <= named
    assert {"ablation.csv", "effects.csv", "schedule.csv"} <= named


def test_minutes_and_spread_come_from_the_tables(tmp_path):
    (tmp_path / "tables").mkdir()
    rows = {
        "recipe": ["kd", "kd,method=cwd,distillation=3", "kd,method=cwd,distillation=3"],
        "train_seconds": [60.0, 120.0, 180.0],
    }
    rows |= {"miou": [0.4, 0.41, 0.43], "flicker": [0.05, 0.06, 0.07]}
    pd.DataFrame(rows).to_csv(tmp_path / "tables" / "distillation.csv", index=False)
    line = again_table(tmp_path).splitlines()[2]
    assert line.startswith("| `distillation.csv` | `tcseg sweep --only distillation; make rows` | 5 | ")
    assert "highest mIoU 42.0 % (41.0 to 43.0), `kd,method=cwd,distillation=3`" in line
    assert "least flicker 5.0 % (one seed), `kd`" in line
