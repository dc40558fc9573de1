"""The report's pages of results: what they show is in the committed tables, and what is not there is said."""

import json
import re

import pandas as pd

from tcseg.study.paths import FIGURES
from tcseg.study.report import pages

OWN = {"dataset": "procity", "profile": "laptop"}


def test_an_empty_study_says_that_nothing_was_run(tmp_path, monkeypatch):
    monkeypatch.setattr(pages, "FIGURES", tmp_path / "figures")
    found = pages.fragments(tmp_path)
    assert found.pop("moving") == ""
    assert "what should come out" in found.pop("again")
    assert found.pop("latency") == "No latency has been measured yet."
    assert all("*Not run yet.*" in text for text in found.values()), found


def test_tables_have_as_many_cells_as_headings():
    for name, text in pages.fragments(FIGURES).items():
        widths = [len(re.findall(r"(?<!\\)\|", line)) for line in text.splitlines() if line.startswith("|")]
        for table in re.split(r"\n(?!\|)", text):
            rows = [line for line in table.splitlines() if line.startswith("|")]
            assert len({line.count("|") for line in rows}) <= 1, (name, widths)


def test_a_sweep_names_what_has_not_been_run():
    row = {
        "recipe": "kd,method=cwd,distillation=3",
        "seed": 0,
        "miou": 0.4,
        "tc": 0.7,
        "flicker": 0.05,
        "train_seconds": 90.0,
    }
    change = {"sweep": "distillation", "comparison": "kd,method=cwd,distillation=3_vs_kd", "metric": "miou", "seeds": 3}
    changes = pd.DataFrame([change | {"difference": -0.01, "ci_low": -0.02, "ci_high": 0.004, "p_holm": 0.3}])
    text = pages.sweep(pd.DataFrame([row]), "distillation", changes)
    table, left = text.split("*Not run yet:* ")
    left, changed = left.split("\n\n")
    assert "| `kd,method=cwd,distillation=3` | 1 | 40.0 | 70.0 | 5.0 | 1.5 |" in table
    assert "`kd,method=dist,distillation=1`" in left and "cwd" not in left
    assert "| kd: method=cwd, distillation=3 | 3 | −1.0 (−2.0 to +0.4) | – | – |" in changed
    assert pages.sweep(pd.DataFrame([row]), "pareto", changes).count("| comparison |") == 0


def test_classes_are_means_over_the_seeds_that_the_ablation_names():
    table = pd.read_csv(FIGURES / "tables" / "ablation.csv").query("dataset == 'procity' and profile == 'laptop'")
    runs = table[table["recipe"] == "student"]["run_id"].dropna().unique()
    road = [json.loads((FIGURES / "runs" / f"{run}.json").read_text())["per_class"]["iou"][0] for run in runs]
    (line,) = (line for line in pages.per_class(FIGURES, OWN).splitlines() if line.startswith("| road |"))
    assert line.split("|")[2].strip() == f"{100 * sum(road) / len(road):.1f}"


def test_networks_stand_beside_each_other_after_as_many_steps():
    scores = {"miou_1x": 0.2, "miou_2x": 0.3, "miou_4x": None, "tc_2x": 0.6, "flicker_2x": 0.1}
    row = {"model": "fast-scnn", "peer": True, "best": "a int8", "best_ms": 9.0, "gflop": 3.0, "params_m": 1.1} | scores
    longer = row | {"model": "x", "peer": False, "best_ms": 3.0, "miou_4x": 0.5}
    heads, _, first, last = pages.networks(pd.DataFrame([longer, row])).splitlines()
    assert "mIoU % 4x" in heads and "8x" not in heads, "no column of lengths that nobody was trained for"
    assert first.startswith("| `x` | a int8 | 3.0 ")
    assert last == "| `fast-scnn` (peer) | a int8 | 9.0 | 20.0 | 30.0 | – | 60.0 | 10.0 | 3.00 | 1.10 |"


def test_each_file_is_ascribed_to_the_command_that_makes_it():
    assert pages.command_of("procity-laptop") == "make study reference DATASET=procity PROFILE=laptop"
    assert pages.command_of("camvid-laptop") == "make sweeps rows DATASET=camvid PROFILE=laptop"
    assert pages.command_of("measure flow") == "tcseg measure flow"
    noted = json.loads((FIGURES / "provenance.json").read_text())["files"]
    text = pages.made_by(FIGURES / "provenance.json")
    assert "`tables/ablation.csv`" in text and all(f"`{name}`" in text for name in noted if name.endswith(".png"))


def test_what_is_offered_for_download_is_there(tmp_path):
    for folder, name in (("tables", "a.csv"), ("figures", "b.png"), ("figures", "b.svg"), ("figures", "c.png")):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / name).touch()
    text = pages.downloads(tmp_path)
    assert re.findall(r"_files/([\w.]+)", text) == ["a.csv", "b.png", "b.svg", "c.png"]
