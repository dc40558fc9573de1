"""How to make each committed table again."""

import json
import re

import pandas as pd

from tcseg.study.paths import FIGURES
from tcseg.study.report.reproduction import EXPECTED, again_table, compare, verdict


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
        "dataset": ["procity"] * 3,
        "recipe": ["kd", "kd,method=cwd,distillation=3", "kd,method=cwd,distillation=3"],
        "train_seconds": [60.0, 120.0, 180.0],
    }
    rows |= {"miou": [0.4, 0.41, 0.43], "flicker": [0.05, 0.06, 0.07]}
    pd.DataFrame(rows).to_csv(tmp_path / "tables" / "distillation.csv", index=False)
    line = again_table(tmp_path).splitlines()[2]
    assert line.startswith("| `distillation.csv` | `tcseg sweep --only distillation; make rows` | 5 | ")
    assert "highest mIoU 42.0 % (41.0 to 43.0), `kd,method=cwd,distillation=3`" in line
    assert "least flicker 5.0 % (one seed), `kd`" in line
    rows["flicker"] = [None] * 3  # Cityscapes
    pd.DataFrame(rows).to_csv(tmp_path / "tables" / "distillation.csv", index=False)
    assert "flicker" not in again_table(tmp_path).splitlines()[2]


def record(seed, miou, finished, threads=1):
    metrics = {"miou": miou, "flicker": 0.05, "tc": {"dis": 0.7}}
    return {
        "dataset": "procity",
        "profile": "laptop",
        "recipe_name": "student",
        "seed": seed,
        "finished": finished,
        "recipe": {"steps": 2000},
        "data_key": ["abc", "def"],
        "machine": {"cpu": "Z80"},
        "cost": {"threads": threads},
        "metrics": metrics,
    }


def test_a_study_is_compared_with_the_committed_rows_to_the_last_digit(tmp_path):
    ours = [record(0, 0.4, "then"), record(1, 0.4, "then"), record(2, 0.4, "then")]
    theirs = [record(0, 0.4, "now"), record(1, 0.41, "now", 2), record(2, 0.4, "then"), record(3, 0.4, "now")]
    ours.append(record(4, 0.4, "then"))
    theirs.append(record(4, 0.5, "now") | {"data_key": ["larger", "frames"]})
    (tmp_path / "figures" / "runs").mkdir(parents=True)
    for one in ours:
        (tmp_path / "figures" / "runs" / f"student-s{one['seed']}.json").write_text(json.dumps(one))
    for one in theirs:
        folder = tmp_path / "study" / "runs" / f"student-s{one['seed']}"
        folder.mkdir(parents=True)
        (folder / "record.json").write_text(json.dumps(one))
    table = compare(tmp_path / "study", tmp_path / "figures")
    assert table["seed"].tolist() == [0, 1], "not with itself, with what is not committed, or with other frames"
    assert table["equal"].tolist() == [True, False]
    assert verdict(table) == (
        "1 of 2 networks trained on Z80 score as the committed ones, to the last digit; the largest difference is 1.0 points "
        "of mIoU (student seed 1; 2 threads, committed 1 of Z80)."
    )
    assert verdict(table[table["equal"]]).endswith(
        "1 of 1 networks trained on Z80 score as the committed ones, to the last digit."
    )
    both = pd.concat([table, table.assign(machine="6502", equal=True)])
    assert verdict(both).endswith(" 2 of 2 networks trained on 6502 score as the committed ones, to the last digit.")
    assert verdict(compare(tmp_path, tmp_path / "figures")) == ""


def test_what_intervals_cover_is_told_by_metric_and_without_the_methods_that_were_tried():
    rows = [
        (metric, units, method, models, clusters, held)
        for metric, held in (("miou", 0.95), ("tc", 0.93))
        for units, methods in (("clips", ("percentile", "ours")), ("clips in cities", ("cities as units",)))
        for method in methods
        for models in ("base", "other", "pair")
        for clusters in (6, 200)
    ]
    table = pd.DataFrame(rows, columns=["metric", "units", "method", "models", "clusters", "coverage"])
    table.loc[table["method"] != "ours", "coverage"] = 0.5
    table.loc[(table["method"] == "ours") & (table["models"] == "other") & (table["clusters"] == 6), "coverage"] = 0.85
    table.loc[(table["method"] == "ours") & (table["models"] == "pair") & (table["clusters"] == 200), "coverage"] += (
        0.014
    )
    assert EXPECTED["coverage"](table) == (
        "95 % intervals over 6 to 200 clips hold the truth, of a network or a difference: mIoU 85 to 96 %, "
        "TC 85 to 94 % of cases (from 24 clips on at least 93 %)"
    )
