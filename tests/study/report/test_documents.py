"""README, MODEL_CARD and the data card: committed as their templates say, with numbers from tables alone."""

import json
import math
import re
import shlex
import shutil
from pathlib import Path

import pandas as pd
import pytest
from typer.main import get_command

from tcseg.cli import app
from tcseg.data.procity_clips import draw_clip
from tcseg.models import registry
from tcseg.study.paths import FIGURES, NOTEBOOKS
from tcseg.study.report import documents, tables
from tcseg.study.report.render import TEMPLATES, StaleTextError, render
from tcseg.study.run_study import WIDGETS

ROOT = FIGURES.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMITTED = ("README.md", "MODEL_CARD.md", "data/README.md", "CITATION.cff")
FENCES = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def made() -> dict[str, str]:
    return documents.documents()


@pytest.mark.parametrize("name", COMMITTED)
def test_the_committed_document_is_what_its_template_and_the_tables_say(name, made):
    assert (ROOT / name).read_text(encoding="utf-8") == made[name], "run: make documents"


def test_no_other_document_is_made(made):
    assert set(made) == set(COMMITTED)


# ------------------------------------------------------------------------------------------------ README


def test_the_readme_is_short_and_shows_how_to_start_before_any_table():
    lines = README.splitlines()
    seen = [re.sub(r"\(https://[^)]+\)", "()", line) for line in lines]  # nobody reads an address
    assert len(lines) <= 130 and max(map(len, seen)) <= 200
    prose = [line for line in FENCES.sub("", README).splitlines() if not line.startswith("|")]
    assert len(" ".join(prose).split()) <= 900
    first_table = next(number for number, line in enumerate(lines) if line.startswith("|"))
    assert README.index("figures/first_drive.gif") < README.index("tcseg segment") < README.index("make study")
    assert README.index("make study") < README.index(lines[first_table])
    order = ["Try it", "Two commands", "The course", "Profiles", "Scores", "Use it", "Data", "Repository", "Licence"]
    found = re.findall(r"^## (.+)$", README, re.MULTILINE)
    assert [title.split(" and ")[0] for title in found] == order


PAGES = [
    ROOT / "README.md",
    ROOT / "data" / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "notebooks").glob("*.md")),
]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_what_a_page_links_to_is_there(page):
    made_for_the_report = {f"{name}.md" for name in documents.PAGES}
    links = re.findall(r"\]\(([^)#\s]+)", FENCES.sub("", page.read_text(encoding="utf-8")))
    local = [link for link in links if "://" not in link]
    missing = [link for link in local if link not in made_for_the_report and not (page.parent / link).exists()]
    assert missing == []
    if page == ROOT / "README.md":
        assert {f"notebooks/{name}.ipynb" for name in NOTEBOOKS} <= set(local)


def _commands(text: str) -> list[list[str]]:
    """`tcseg ...` and `make ...` in code blocks and in backticks."""
    blocks = "\n".join(body for language, body in FENCES.findall(text) if language == "bash")
    inline = re.findall(r"`((?:tcseg|make) [^`]+)`", FENCES.sub("", text))
    lines = [line.split("  #")[0].split(" #")[0].strip() for line in [*blocks.splitlines(), *inline]]
    return [
        shlex.split(part) for line in lines for part in line.split(";") if part.strip().startswith(("tcseg ", "make "))
    ]


def _option_names(command) -> set[str]:
    return {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}


CARDS = ("README.md", "MODEL_CARD.md", "data/README.md")
PAGES_WITH_COMMANDS = (*CARDS, *(f"notebooks/{name}.md" for name in ("use", "your_data", "help", "cluster")))


@pytest.mark.parametrize("name", PAGES_WITH_COMMANDS)
def test_each_command_in_a_page_exists_with_its_options(name):
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    found = _commands((ROOT / name).read_text(encoding="utf-8"))
    assert found
    for program, *words in found:
        if program == "make":
            assert {word for word in words if re.fullmatch(r"[a-z]+", word)} <= targets, words
            continue
        command = get_command(app)
        while words and words[0] in getattr(command, "commands", {}):
            command = command.commands[words.pop(0)]
        if words[:1] == ["COMMAND"]:
            continue
        assert not hasattr(command, "commands"), words
        assert {word for word in words if word.startswith("--")} <= _option_names(command) | {"--help"}, words


@pytest.mark.slow
def test_the_lines_of_python_in_the_readme_run():
    (code,) = (body for language, body in FENCES.findall(README) if language == "python")
    assert len([line for line in code.splitlines() if line.strip()]) == 5
    names: dict = {}
    exec(code, names)
    frames, labels = names["frames"], names["labels"]
    assert frames.shape == (30, 128, 256, 3) and labels.shape == (30, 128, 256) and labels.dtype == "uint8", (
        "as the comments say"
    )
    truth = draw_clip("korvin", seed=3, size=(256, 128)).labels[0]
    assert (labels == truth).mean() > 0.6, "the classes are right, mostly"


def test_the_readme_says_what_the_tables_say(tmp_path, monkeypatch):
    shutil.copytree(FIGURES / "tables", tmp_path / "tables")
    effects = pd.read_csv(tmp_path / "tables" / "effects.csv")
    own = (
        (effects["dataset"] == "camvid")
        & (effects["comparison"] == "consistent_vs_student")
        & (effects["metric"] == "miou")
    )
    assert own.sum() == 1
    effects.loc[own, ["difference", "ci_low", "ci_high"]] = -0.0123, -0.0345, 0.0056
    effects.to_csv(tmp_path / "tables" / "effects.csv", index=False)
    assert re.search(r"mIoU falls\s+by 1\.2 points \(−0\.6 to 3\.5\), too", documents.readme(tmp_path))
    effects.loc[own, ["difference", "ci_low", "ci_high"]] = 0.01, 0.005, 0.02
    effects.to_csv(tmp_path / "tables" / "effects.csv", index=False)
    with pytest.raises(StaleTextError, match="no longer support a sentence: on CamVid the recipe lowers flicker"):
        documents.readme(tmp_path)


def test_without_tables_the_readme_and_the_data_card_leave_those_parts_out(tmp_path):
    text = documents.readme(tmp_path)
    assert "## Scores" not in text and "flickers" not in text and "ms on" not in text
    assert "| `laptop` | the course | 160 + 24 clips, 256x128 | 2 cores, 4 GB of memory | – | – |" in text
    assert "make study" in text and not re.search(r"\n\n\n", text)
    card = documents.data_card(tmp_path)
    assert "| road |" not in card and "photometric" not in card and "**Splits.**" in card
    assert "None" not in text + card and "nan" not in (text + card).split()


# ------------------------------------------------------------------------------------------------ templates


@pytest.fixture
def template(tmp_path, monkeypatch):
    def write(text: str) -> str:
        (tmp_path / "page.md.j2").write_text(text)
        return "page.md"

    monkeypatch.setattr("tcseg.study.report.render.TEMPLATES", tmp_path)
    return write


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{{ student_miuo }}", r"page.md.j2 uses a value that nothing defines: 'student_miuo' is undefined"),
        ("{{ row(table, a=1).miuo }}", "nothing defines"),
        ("mIoU {{ '%.1f' | format(table.b[1]) }} points", "shows a number that was not measured: mIoU nan points"),
        (
            "{% do claim(table.a[0] > 1, 'a is large') %}",
            "no longer support a sentence: a is large; change the template",
        ),
        ("{{ row(table, a=3) }}", "no row has a 3"),
    ],
)
def test_what_the_tables_do_not_support_fails(template, text, message):
    with pytest.raises(StaleTextError, match=message):
        render(template(text), table=pd.DataFrame({"a": [1.0, 2.0], "b": [0.5, None]}))


def test_a_filled_template_has_no_holes(template):
    text = "{% do claim(true, 'x') %}\n# T\n\n\n\n{% if false %}\nno\n{% endif %}\n{{ 0.125 | percent(0) }} banana\n\n"
    assert render(template(text)) == "# T\n\n12 banana\n"


def test_each_template_is_a_document_a_page_or_a_part():
    names = {path.name.removesuffix(".j2") for path in TEMPLATES.glob("*.j2")}
    parts = {"parts", "expected", "transfer", "camvid.md", "sweep_findings.md", "reproduced.md", "exported.py"}
    cards = {"README.md", "MODEL_CARD.md", "DATA_CARD.md", "ADAPTED.md", "CITATION.cff"}
    widgets = {name for name in names if name.startswith("widget")}
    assert widgets == set(WIDGETS)
    assert names == cards | {f"{name}.md" for name in documents.PAGES} | parts | widgets


# ------------------------------------------------------------------------------------------------ model card


def test_a_page_of_the_report_can_show_the_cards_sections():
    for text in documents.sections().values():
        assert text and not re.search(r"^#|\]\(", text, re.MULTILINE), "headings and links belong to another page"


def test_the_cards_numbers_are_those_of_sidecars_and_tables(tmp_path):
    for name in (*registry.SHIPPED, registry.FAST):
        run_id = registry.shipped_notes(name)["run_id"]
        record = json.loads((FIGURES / "runs" / f"{run_id}.json").read_text())
        record["per_class"]["iou"] = [0.1 * (k % 9) for k in range(18)] + [None]
        (tmp_path / "runs").mkdir(exist_ok=True)
        (tmp_path / "runs" / f"{run_id}.json").write_text(json.dumps(record))
    parts = documents.sections(tmp_path)
    assert parts["On a real street"].startswith("Not measured yet") and parts["How fast"].startswith("Not measured yet")
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in parts["Class by class"].splitlines()[2:]]
    assert cells[0][1:] == ["80.0", "80.0"] and cells[-1] == ["bicycle", "–", "–"]
    scores = registry.shipped_notes("student")["metrics"]
    assert f"| flicker, % | {100 * scores['flicker']:.1f} |" in parts["How good they are on drawn streets"]

    shutil.copytree(FIGURES / "tables", tmp_path / "tables")
    latency = pd.read_csv(tmp_path / "tables" / "latency.csv")
    latency.assign(p50_ms=4.5, p99_ms=6.5, fps=222).to_csv(tmp_path / "tables" / "latency.csv", index=False)
    assert re.search(r"\| +4\.5 \| +6\.5 \| +222 \|", documents.sections(tmp_path)["How fast"])


def test_weights_without_their_record_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="published together: make reference"):
        documents.model_card(tmp_path)


def test_only_students_that_ship_have_notes():
    assert registry.shipped_notes("student")["recipe"] == "student"
    with pytest.raises(ValueError, match="shipped model is 'teacher'; it must be one of student, student-consistent"):
        registry.shipped_notes("teacher")


# ------------------------------------------------------------------------------------------------ numbers as text


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (tables.percent(0.12345), "12.3"),
        (tables.percent(-0.0004), "0.0"),
        (tables.percent(-0.012, 2), "−1.20"),
        (tables.percent(None), "–"),
        (tables.interval(0.012, -0.003, 0.027), "+1.2 (−0.3 to +2.7)"),
        (tables.interval(-0.5), "−50.0"),
        (tables.interval(float("nan")), "–"),
        (tables.amount({"difference": -0.5, "ci_low": -0.6, "ci_high": -0.4}, "%"), "50.0 % (40.0 to 60.0)"),
        (tables.amount({"difference": 0.02, "ci_low": -0.01, "ci_high": 0.05}, "points"), "2.0 points (−1.0 to 5.0)"),
        (tables.amount({"difference": 0.02, "ci_low": math.nan, "ci_high": math.nan}, "points"), "2.0 points"),
        (tables.spread(pd.Series([0.3, 0.32, None])), "31.0 (30.0–32.0)"),
        (tables.spread(pd.Series([0.3])), "30.0"),
        (tables.spread(pd.Series([None], dtype=float)), "–"),
        (tables.minutes(0.4), "< 1"),
        (tables.minutes(90), "2"),
        (tables.minutes(None), "–"),
        (tables.minutes(90, 1), "1.5"),
    ],
)
def test_numbers_as_people_read_them(found, text):
    assert found == text


def test_tables_have_text_on_the_left_and_numbers_on_the_right():
    table = pd.DataFrame({"name": ["a", "b"], "share": [0.125, None], "n": [1, 20], "yes": [True, False]})
    text = tables.columns(table, {"who": "name:`", "share %": "share:%", "precise": "share:.4f", "count": "n"})
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    assert cells[0] == ["who", "share %", "precise", "count"]
    assert cells[2:] == [["`a`", "12.5", "0.1250", "1"], ["`b`", "–", "–", "20"]]
    assert cells[1][0].startswith(":") and all(rule.endswith(":") and rule[0] != ":" for rule in cells[1][1:])
    with pytest.raises(KeyError):
        tables.columns(table, {"who": "nobody"})


def test_templates_are_installed_with_the_package():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]["tcseg"]
    package = Path(TEMPLATES).parent
    shipped = {path for pattern in patterns for path in package.glob(pattern)}
    assert set(TEMPLATES.iterdir()) <= shipped
