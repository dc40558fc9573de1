"""The report's pages that are made from tables: what they show is there, and what is not there is said."""

import json
import re

import nbformat
import pandas as pd
import pytest
from nbformat.v4 import new_notebook

from tcseg.models.students import CHOSEN
from tcseg.study.paths import FIGURES
from tcseg.study.recipes import ABLATION_SWEEPS, RECIPES
from tcseg.study.report import chapters, documents, reproduction, results, tables

OWN = {"dataset": "procity", "profile": "laptop"}


@pytest.fixture(scope="module")
def made() -> dict[str, str]:
    return documents.pages(FIGURES, chapters.titles(), "the contents")


@pytest.fixture
def nothing(tmp_path, monkeypatch):
    """A study without anything, and without committed results."""
    monkeypatch.setattr(documents, "FIGURES", tmp_path)
    monkeypatch.setattr(reproduction, "FIGURES", tmp_path)
    monkeypatch.setattr(tables, "FIGURES", tmp_path)
    monkeypatch.setattr(tables.Tables.__init__, "__defaults__", ("procity", "laptop", tmp_path))
    monkeypatch.setattr(chapters, "FIGURES", tmp_path)
    return tmp_path


def cells(text: str) -> list[list[str]]:
    """Rows of a table, without its head."""
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")
    ][2:]


def section(page: str, title: str) -> str:
    return re.split(r"^#+ ", page.split(f"# {title}\n")[1], maxsplit=1, flags=re.MULTILINE)[0]


def executed(study, profile: str, runs: str) -> None:
    metadata = {"papermill": {"parameters": OWN | {"profile": profile, "runs": runs}}}
    (study / "notebooks").mkdir(exist_ok=True)
    nbformat.write(new_notebook(metadata=metadata), study / "notebooks" / "01_first.ipynb")


def test_an_empty_study_says_that_nothing_was_run(nothing):
    found = documents.pages(nothing, {"01_first": "1 · First"}, "the contents")
    for name in ("results", "speed", "reproducibility"):
        titles = re.findall(r"^## (.+)$", found[name], re.MULTILINE)
        silent = [title for title in titles if "Not run yet" not in section(found[name], title) and title != "Sweeps"]
        assert silent in ([], ["Reproduce a table"]), name
    assert found["results"].count("*Not run yet.*") >= len(ABLATION_SWEEPS) + 5
    assert "the contents" in found["index"] and "<img" not in found["index"] and "flickers" not in found["index"]


def test_a_study_without_rows_beside_committed_ones_says_so(tmp_path):
    executed(tmp_path, "smoke", "train")
    found = documents.pages(tmp_path, {"01_first": "1 · First"}, "")["results"]
    assert "Not run yet" in section(found, "The six recipes") and "Not run yet" in section(
        found, "The primary comparison"
    )
    assert "| consistent" in section(found, "On a real street")


def test_a_page_warns_of_smoke_alone(nothing):
    executed(nothing, "smoke", "train")
    index = documents.pages(nothing, {}, "")["index"]
    assert ":::{warning}" in index and "**its numbers have no meaning.**" in index and "reference rows" not in index
    executed(nothing, "laptop", "reference")
    index = documents.pages(nothing, {}, "")["index"]
    assert ":::{note}" in index and "no meaning" not in index and "committed reference rows" in index


def test_tables_have_as_many_cells_as_headings(made):
    assert set(made) == set(documents.PAGES)
    count = 0
    for name, text in made.items():
        for table in re.split(r"\n(?!\|)", text):
            rows = [line for line in table.splitlines() if line.startswith("|")]
            assert len({len(re.findall(r"(?<!\\)\|", line)) for line in rows}) <= 1, (name, rows[:3])
            count += bool(rows)
    assert count > 30


def test_what_a_page_offers_for_download_is_there(nothing):
    for folder, name in (("tables", "a.csv"), ("figures", "b.png"), ("figures", "b.svg"), ("figures", "c.json")):
        (nothing / folder).mkdir(exist_ok=True)
        (nothing / folder / name).write_text("a\n1\n" if name == "a.csv" else "")
    text = documents.pages(nothing, {}, "")["reproducibility"]
    assert re.findall(r"<_files/([\w.]+)>", text) == ["a.csv", "b.png", "b.svg"]


def test_every_committed_measurement_and_sweep_says_how_to_reproduce_it(made):
    text = section(made["reproducibility"], "Reproduce a table")
    rows = cells(text)
    assert all(len(row) == 4 and row[3] for row in rows)
    named = set(re.findall(r"`(\w+)\.csv`", "".join(row[0] for row in rows)))
    noted = json.loads((FIGURES / "provenance.json").read_text())["files"]
    measured = {by.removeprefix("measure ") for makers in noted.values() for by in makers if by.startswith("measure ")}
    assert {name for name in measured if f"tables/{name}.csv" in noted} <= named
    assert {"ablation", "effects", *ABLATION_SWEEPS} <= named


def test_minutes_and_spread_of_a_sweep_come_from_its_table(nothing):
    (nothing / "tables").mkdir()
    rows = {
        "dataset": ["procity"] * 3,
        "profile": ["laptop"] * 3,
        "recipe": ["kd", "kd,method=cwd,distillation=3", "kd,method=cwd,distillation=3"],
        "seed": [0, 0, 1],
        "train_seconds": [60.0, 120.0, 180.0],
        "tc": [0.7, 0.7, 0.8],
    }
    rows |= {"miou": [0.4, 0.41, 0.43], "flicker": [0.05, 0.06, 0.07]}
    change = {"sweep": "distillation", "comparison": "kd,method=cwd,distillation=3_vs_kd", "metric": "miou", "seeds": 3}
    changes = pd.DataFrame([OWN | change | {"difference": -0.01, "ci_low": -0.02, "ci_high": 0.004, "p_holm": 0.3}])
    changes.to_csv(nothing / "tables" / "sweep_effects.csv", index=False)
    pd.DataFrame(rows).to_csv(nothing / "tables" / "distillation.csv", index=False)
    found = documents.pages(nothing, {}, "")
    (line,) = cells(section(found["reproducibility"], "Reproduce a table"))
    assert line[:3] == ["`distillation.csv`", "`tcseg sweep --only distillation; make rows`", "5"]
    assert line[3] == (
        "highest mIoU 42.0 % (41.0 to 43.0), `kd,method=cwd,distillation=3`; least flicker 5.0 % (one seed), `kd`"
    )
    text = section(found["results"], "Distillation methods")
    assert ["`kd,method=cwd,distillation=3`", "2", "6.5", "42.0", "75.0", "2.5"] in cells(text)
    (lacking,) = re.findall(r"\*Not run yet:\* (.+)\.\n", text)
    assert "`kd,method=dist,distillation=1`" in lacking and "cwd" not in lacking
    assert ["kd: method=cwd, distillation=3", "3", "–", "−1.0 (−2.0 to +0.4)", "–"] in cells("|\n|\n" + text)
    rows["flicker"] = [None] * 3  # Cityscapes
    pd.DataFrame(rows).to_csv(nothing / "tables" / "distillation.csv", index=False)
    assert (
        "flicker"
        not in section(documents.pages(nothing, {}, "")["reproducibility"], "Reproduce a table").splitlines()[-1]
    )


def test_the_pages_say_what_intervals_speak_of(made):
    assert made["results"].count("of other clips of these 4 cities, not of other cities.") == 1  # procity
    assert made["results"].count("The intervals speak of this one street") == 1  # CamVid


# ------------------------------------------------------------------------------------------------ numbers of the results


def ablation() -> pd.DataFrame:
    rows = [
        {"recipe": recipe, "seed": seed, "flow": flow, "miou": 0.3 + 0.02 * seed, "tc": 0.7 if flow == "exact" else 0.6}
        for recipe in ("student", "consistent", "constant map")
        for seed in (0, 1)
        for flow in ("exact", "dis")
    ]
    return pd.DataFrame(rows).assign(tc_ceiling=0.95, flicker=None)


def test_recipes_have_means_spreads_and_the_ceiling():
    table = results.recipes(ablation())
    assert list(table) == ["recipe", "seeds", "mIoU %", "TC %, exact flow", "TC %, DIS flow"], "what was measured"
    assert table.iloc[0].tolist() == ["student", 2, "31.0 (30.0–32.0)", "70.0 (70.0–70.0)", "60.0 (60.0–60.0)"]
    assert table.iloc[-1].tolist() == ["*true labels: the ceiling of TC*", "–", None, "95.0", "95.0"] or pd.isna(
        table.iloc[-1, 2]
    )
    few = results.recipes(ablation(), only=tuple(RECIPES))
    assert few.to_numpy().tolist() == [["student", 2, "31.0", "70.0"], ["consistent", 2, "31.0", "70.0"]]
    assert results.recipes(pd.DataFrame()).empty


def test_classes_are_means_over_the_seeds_that_the_ablation_names():
    own = tables.Tables(FIGURES)
    runs = own("ablation").query("recipe == 'student'")["run_id"].dropna().unique()
    road = [json.loads((FIGURES / "runs" / f"{run}.json").read_text())["per_class"]["iou"][0] for run in runs]
    found = results.per_class(own.records())
    assert found.loc["road", "student"] == pytest.approx(sum(road) / len(road))
    assert (found["difference"] - (found["consistent"] - found["student"])).abs().max() == 0
    assert results.per_class([]).empty


def test_speed_is_compared_in_the_fastest_setting_and_in_the_same():
    archs = [CHOSEN["student-cpu"], "fast-scnn", "lraspp-mv3-large"]
    times = {"best_ms": [3.0, 12.0, 30.0], "a_fp32_ms": [6.0, 15.0, 90.0], "a_int8_ms": [3.0, 12.0, 27.0]}
    speeds = pd.DataFrame({"arch": archs} | times)
    assert results.speedups(speeds) == {
        "LR-ASPP": {"fastest": 10.0, "same": 9.0},
        "Fast-SCNN": {"fastest": 4.0, "same": 2.5},
    }
    assert results.speedups(speeds.iloc[1:]) == results.speedups(pd.DataFrame()) == {}


def test_networks_are_sorted_by_their_time_and_called_by_their_role():
    table = pd.DataFrame({"arch": ["fast-scnn", CHOSEN["student-cpu"]], "peer": [True, False], "best_ms": [9.0, 1.0]})
    assert results.named(table)["name"].tolist() == ["`student-cpu`", "`fast-scnn` (peer)"]


def test_no_column_is_of_a_length_that_nobody_was_trained_for(made):
    heads = section(made["speed"], "Speed and accuracy").split("| network")[1].splitlines()[0]
    table = pd.read_csv(FIGURES / "tables" / "students.csv")
    for length in ("1x", "2x", "4x", "8x"):
        assert (f"mIoU % {length}" in heads) == table[f"miou_{length}"].notna().any()
