"""The generated parts of the README."""

import json

import pandas as pd
import pytest

from tcseg.models.students import CHOSEN
from tcseg.study.paths import FIGURES
from tcseg.study.report import readme, summary


@pytest.fixture
def study(tmp_path):
    (tmp_path / "tables").mkdir()
    return tmp_path


def test_costs_are_of_the_cold_study(study, monkeypatch):
    monkeypatch.setattr(summary, "titles", lambda: {"01_first": "First", "02": "Second"})
    times = {"profile": "smoke", "notebook": "01_first", "seconds": 90.0, "runs_trained": 3, "runs_loaded": 0}
    pd.DataFrame([times, times | {"notebook": "02", "seconds": 150.0}]).to_csv(
        study / "tables" / "notebooks.csv", index=False
    )
    stamp = {"machine": {"cpu": "Z80", "cores": 1, "gpu": None}}
    noted = {"files": {"tables/notebooks.csv": {"procity-smoke": stamp}}, "disk_mb": {"procity-smoke": 12.4}}
    (study / "provenance.json").write_text(json.dumps(noted))
    assert readme.cost_table(study).splitlines()[2:] == ["| `smoke` | 4 | 6 | 12 | Z80, 1 cores |"]

    monkeypatch.setattr(summary, "titles", lambda: {"01_first": "First", "02": "Second", "03": "Third"})
    assert "| `smoke` | – (made in several sittings) | " in readme.cost_table(study)


def test_readme_keeps_what_is_not_between_markers():
    text = "a\n<!-- results: made by x -->\nold\n<!-- end of results -->\nb\n"
    filled = readme.fill_readme(text, {"results": "new \\1", "cost": "unused"})
    assert filled == "a\n<!-- results: made by x -->\n\nnew \\1\n\n<!-- end of results -->\nb\n"
    assert readme.fill_readme(filled, {"results": "new \\1"}) == filled


def test_the_readme_says_what_the_committed_tables_say():
    text = (FIGURES.parent / "README.md").read_text(encoding="utf-8")
    assert readme.fill_readme(text, readme.readme_sections(FIGURES)) == text


def test_the_headline_compares_scores_after_as_many_steps(study):
    archs = [CHOSEN["student-cpu"], "fast-scnn", "lraspp-mv3-large"]
    speeds = pd.DataFrame(
        {"arch": archs, "best_ms": [3.0, 12.0, 30.0], "best": "openvino int8", "trained": [True, False, True]}
    )
    speeds.assign(width=1024, height=512, threads=2, machine="CPU").to_csv(study / "tables" / "speeds.csv", index=False)
    line = readme.headline(study).splitlines()[-1]
    assert "10.0 times the rate of LR-ASPP, 4.0 times the rate of Fast-SCNN (untrained)" in line and "mIoU" not in line
    like = speeds.assign(a_fp32_ms=[6.0, 15.0, 90.0], a_int8_ms=[3.0, 12.0, 27.0], width=1024, height=512, threads=2)
    like.assign(machine="CPU").to_csv(study / "tables" / "speeds.csv", index=False)
    line = readme.headline(study).splitlines()[-1]
    assert (
        "LR-ASPP (like for like at least 9.0), 4.0 times the rate of Fast-SCNN (untrained) (like for like at least 2.5)"
        in line
    )
    scores = {"miou_1x": [0.3, 0.2, 0.1], "miou_2x": [0.4, 0.35, 0.25], "miou_4x": [0.5, 0.45, None]}
    seeds = {"seeds_1x": 2, "seeds_2x": [2, 1, 1], "seeds_4x": [1, 1, 0]}
    table = pd.DataFrame({"arch": archs, "steps": [4000, 4000, 2000], **scores, **seeds})
    table.to_csv(study / "tables" / "students.csv", index=False)
    told = "after 2000 steps each: mIoU `student-cpu` 40.0 % (2 seeds), LR-ASPP 25.0 % (one seed), Fast-SCNN 35.0 % (one seed);"
    assert told in readme.headline(study).splitlines()[-1], "the longest that all have"


def test_the_readme_says_what_intervals_speak_of():
    told = readme.readme_sections(FIGURES)["effects"]
    assert told.count("of other clips of these 4 cities, not of other cities.") == 1  # procity
    assert told.count("The intervals speak of this one street") == 1  # CamVid


def test_the_headline_says_what_came_out_on_each_data_set_good_or_bad(study):
    row = {"dataset": "procity", "profile": "laptop", "comparison": "consistent_vs_student", "seeds": 5}
    row |= {"metric": "flicker_relative", "difference": -0.5, "ci_low": -0.6, "ci_high": -0.4}
    loss = {"metric": "miou", "difference": -0.026, "ci_low": -0.046, "ci_high": -0.005}
    street, lone = {"dataset": "camvid"}, {"comparison": "consistent_vs_student_4x", "seeds": 1}
    rows = [row | more | metric for more in ({}, lone, street) for metric in ({}, loss)]
    pd.DataFrame(rows).to_csv(study / "tables" / "effects.csv", index=False)
    same = "against the same network trained for as many steps; 5 paired seeds, 95 % over seeds and clips."
    assert readme.headline(study).splitlines() == [
        f"- On {place}: **flicker −50.0 (−60.0 to −40.0) %**, mIoU −2.6 (−4.6 to −0.5) points, {same}"
        for place in ("procity", "CamVid")
    ], "one seed is no headline"
    one_clip = pd.DataFrame(rows).assign(ci_low=None, ci_high=None)
    one_clip.to_csv(study / "tables" / "effects.csv", index=False)
    for line in (told := readme.headline(study).splitlines()):
        assert line.endswith("5 paired seeds, no interval: one clip.") and "flicker −50.0 %**" in line
    assert len(told) == 2
    pd.DataFrame(rows).to_csv(study / "tables" / "effects.csv", index=False)
    cpu = CHOSEN["student-cpu"]
    other = row | {"sweep": "other_students", "comparison": f"consistent,arch={cpu}_vs_student,arch={cpu}", "seeds": 3}
    pd.DataFrame([other, other | loss]).to_csv(study / "tables" / "sweep_effects.csv", index=False)
    assert readme.headline(study).splitlines()[-1].startswith("- On procity, with `student-cpu`: **flicker −50.0 (")
    half = {"seen": [2048, 1024, 1024], "width": 2048, "height": 1024, "p50_ms": [9.0, 8.0, 4.7], "p99_ms": 7.06}
    pd.DataFrame(half).to_csv(study / "tables" / "half_resolution.csv", index=False)
    line = readme.headline(study).splitlines()[-1]
    assert line.startswith("- **4.7 ms a frame** of 2048x1024 (p99 7.1)") and "shrunk to 1024x512" in line
    names = ["student-gpu", "student-gpu", "fast-scnn", "pidnet-s", "student-gpu"]
    gpu = {"model": names, "runtime": "cudagraph", "p50_ms": [1.25, 2.0, 4.0, 5.0, 0.1], "width": [2048] * 4 + [1024]}
    gpu = pd.DataFrame(gpu).assign(fps=lambda t: 1000 / t["p50_ms"], height=1024, machine="H", n=9, precision="fp16")
    gpu.assign(scope="end_to_end").to_csv(study / "tables" / "gpu.csv", index=False)
    line = readme.headline(study).splitlines()[-1]
    assert line.startswith("- **1.25 ms a frame** of 2048x1024") and "cudagraph): 800 frames a second" in line
    assert line.endswith("the fastest peer, Fast-SCNN, has 250.")
