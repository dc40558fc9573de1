"""How the notebooks are written: stripped, short cells, one frame for all eight, nothing fetched, no result typed."""

from __future__ import annotations

import ast
import re
import statistics
from pathlib import Path

import nbformat
import pytest

from tcseg.study.notebooks.workbook import exercises
from tcseg.study.paths import NOTEBOOKS
from tcseg.study.recipes import ABLATION_SWEEPS

FOLDER = Path(__file__).resolve().parents[3] / "notebooks"
NAMES = (
    "00_start_here",
    "01_explore_cityscapes",
    "02_train_teacher",
    "03_distill_student",
    "04_temporal_consistency",
    "05_ablations",
    "06_realtime_benchmark",
    "07_your_own_video",
)
REWRITTEN = NAMES[:-1]
"""The chapters whose exercises and predictions stand where the thing is taught."""
PARAMETERS = """dataset: str = "procity"  # procity | camvid | cityscapes | a folder
profile: str = "laptop"  # smoke | laptop | full
runs: str = "reference"  # train | reference"""
OWN_PARAMETERS = {
    "07_your_own_video": """
video: str = ""  # a video file, a folder of pictures, the number of a camera, a stream; empty: the embedded city"""
}
# Numbers with a decimal point that prose may hold: published ones, and what follows from definitions.
PUBLISHED = {
    "1.8": "seconds of a Cityscapes snippet, Cordts et al. 2016",
    "6.5": "halfway between trainIds 0 and 13",
    "68.50": "TC, ETC's README",
    "70.56": "TC, ETC's README",
    "69.79": "mIoU, ETC's README",
    "71.72": "mIoU, ETC's README",
    "73.06": "mIoU, ETC's README",
    "93.2": "frames a second, PIDNet's README",
    "2.5": "a percentile",
    "97.5": "a percentile",
}


@pytest.fixture(params=NAMES)
def notebook(request: pytest.FixtureRequest) -> nbformat.NotebookNode:
    notebook = nbformat.read(FOLDER / f"{request.param}.ipynb", as_version=nbformat.NO_CONVERT)
    notebook.metadata["name"] = request.param
    return notebook


def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def prose(notebook: nbformat.NotebookNode) -> str:
    return "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def calls(tree: ast.AST, name: str) -> list[ast.Call]:
    """Calls of a method or function of that name."""
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [call for call in found if getattr(call.func, "attr", getattr(call.func, "id", "")) == name]


def test_there_are_these_eight() -> None:
    found = [path for path in FOLDER.rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts]
    assert sorted(path.stem for path in found) == sorted(NAMES) == sorted(NOTEBOOKS)


def test_stripped_with_readable_ids(notebook: nbformat.NotebookNode) -> None:
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert notebook.metadata.kernelspec.name == "python3" and not {"papermill", "widgets"} & set(notebook.metadata)
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids) and all(re.fullmatch(r"[a-z][a-z0-9-]+", one) for one in ids)
    assert not any(re.fullmatch(r"[0-9a-f]{8}", one) for one in ids), "an id made by a machine: give the cell a name"
    for cell in code_cells(notebook):
        assert not cell.outputs and cell.execution_count is None, f"run nbstripout: {cell.id} has outputs"
        assert not set(cell.metadata) & {"execution", "papermill"}, f"run nbstripout: {cell.id} has run data"


def test_opens_with_parameters_and_banner(notebook: nbformat.NotebookNode) -> None:
    first, second = code_cells(notebook)[:2]
    assert first.source == PARAMETERS + OWN_PARAMETERS.get(notebook.metadata["name"], "")
    assert first.metadata.tags == ["parameters"]
    assert sum("parameters" in cell.metadata.get("tags", []) for cell in notebook.cells) == 1
    assert f'notebook="{notebook.metadata["name"]}"' in second.source
    for name in ("dataset", "profile", "runs"):
        assert f"{name}={name}" in second.source
    assert second.source.splitlines()[-1] == "study.banner()"


def test_a_picture_comes_early(notebook: nbformat.NotebookNode) -> None:
    after_banner = code_cells(notebook)[2:5]
    assert any(
        calls(ast.parse(cell.source), "figure") or calls(ast.parse(cell.source), "film") for cell in after_banner
    )


def test_tells_what_a_learner_needs(notebook: nbformat.NotebookNode) -> None:
    text = prose(notebook)
    for part in ("**The question.**", "**You will be able to**", "**You need**", "> **Predict before you run.**"):
        assert part in text, part
    for heading in ("## What went wrong", "## Summary", "## References"):
        assert re.search(f"\n{heading}\n", text), heading
    assert "<summary>Hint</summary>" in text and "<summary>Solution</summary>" in text
    checkpoints = [cell for cell in code_cells(notebook) if "checkpoint" in cell.metadata.get("tags", [])]
    assert checkpoints and all(re.search(r"^assert .*, ", cell.source, re.M | re.S) for cell in checkpoints)


def test_cells_are_short(notebook: nbformat.NotebookNode) -> None:
    lengths = sorted(len(cell.source.splitlines()) for cell in code_cells(notebook))
    assert statistics.median(lengths) <= 8  # a function that a chapter writes itself is a cell
    assert lengths[int(0.9 * (len(lengths) - 1))] <= 20 and lengths[-1] <= 40
    for cell in code_cells(notebook):
        for node in ast.walk(ast.parse(cell.source)):
            if isinstance(node, ast.FunctionDef):
                length = node.end_lineno - node.lineno + 1
                assert length <= 15, f"{node.name} has {length} lines: it belongs into tcseg"


def test_exercises_are_functions_with_a_check(notebook: nbformat.NotebookNode) -> None:
    found = exercises(notebook, notebook.metadata["name"])
    assert 2 <= len(found) <= 4 and [one.number for one in found] == [*range(1, len(found) + 1)]
    assert prose(notebook).count("<summary>Solution</summary>") == len(found), "one is not written like the others"
    for one in found:
        body = ast.parse(one.solution).body
        functions = [node for node in body if isinstance(node, ast.FunctionDef)]
        checks = [node for node in ast.walk(ast.Module(body, [])) if isinstance(node, ast.Assert)]
        assert functions and all(ast.get_docstring(function) for function in functions), one
        assert checks and all(check.msg is not None for check in checks), one
        assert max(map(len, one.solution.splitlines())) <= 132, one


@pytest.mark.parametrize("name", REWRITTEN)
def test_exercises_stand_where_the_thing_is_taught(name: str) -> None:
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=nbformat.NO_CONVERT)
    cells = [cell.source for cell in notebook.cells]
    closing = next(place for place, source in enumerate(cells) if "## What went wrong" in source)
    places = [place for place, source in enumerate(cells) if "<summary>Solution</summary>" in source]
    assert [cells[place].split("\n")[0] for place in places] == [f"### Exercise {n}" for n in range(1, len(places) + 1)]
    assert all(place < closing for place in places) and places[0] < closing - len(places), "they stand at the end"


@pytest.mark.parametrize("name", REWRITTEN)
def test_a_prediction_has_a_place_to_write_and_an_answer(name: str) -> None:
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=nbformat.NO_CONVERT)
    kinds = []
    for cell in notebook.cells:
        kinds += ["question"] * cell.source.count("**Predict before you run.**")
        kinds += ["place"] if "prediction" in cell.metadata.get("tags", []) else []
        kinds += ["answer"] if cell.source.startswith("<details><summary>Answer</summary>") else []
    pairs = list(zip(kinds, kinds[1:], strict=False))
    assert kinds.count("question") == kinds.count("place") == kinds.count("answer") > 0
    assert all(after == "place" for before, after in pairs if before == "question"), "each has its own place, right below"


def test_a_cell_shows_few_lines_of_the_package(notebook: nbformat.NotebookNode) -> None:
    """What is longer is read on the API page; a reader of a chapter wants the idea."""
    space: dict = {}
    for cell in code_cells(notebook):
        tree = ast.parse(cell.source)
        imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        exec(compile(ast.Module(imports, []), cell.id, "exec"), space)  # noqa: S102
        if "getsource" not in cell.source or "Code(" not in cell.source:
            continue
        lines = [node for node in tree.body if isinstance(node, ast.Assign | ast.Expr) and node not in imports]
        shown = {"Code": lambda text, **_: text, **{key: value for key, value in space.items() if key != "Code"}}
        exec(compile(ast.Module(lines[:-1], []), cell.id, "exec"), shown)  # noqa: S102
        text = eval(compile(ast.Expression(lines[-1].value), cell.id, "eval"), shown)  # noqa: S307
        assert len(text.splitlines()) <= 25, cell.id


def test_nothing_is_fetched_installed_or_absolute(notebook: nbformat.NotebookNode) -> None:
    for cell in code_cells(notebook):
        assert not re.search(r"^\s*[!%]|https?://", cell.source, re.M), cell.id
        assert not re.search(r"\b(requests|urllib|urlopen|subprocess|get_ipython)\b", cell.source), cell.id
        assert not re.search(r"[\"'](/(home|root|tmp|work|Users)|~|[A-Z]:\\)", cell.source), cell.id


def test_figures_have_their_alt_text_in_code_and_metadata(notebook: nbformat.NotebookNode) -> None:
    drawn = 0
    for cell in code_cells(notebook):
        tree = ast.parse(cell.source)
        for call in (call for call in calls(tree, "figure") if ast.unparse(call.func) == "study.figure"):
            constants = {
                node.targets[0].id: node.value.value
                for node in tree.body
                if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
            }
            value = next(keyword.value for keyword in call.keywords if keyword.arg == "alt")
            alt = value.value if isinstance(value, ast.Constant) else constants[value.id]
            assert len(alt) > 30 and alt == cell.metadata.mystnb.image.alt, cell.id
            drawn += 1
    assert drawn >= 2


def test_every_picture_has_a_caption(notebook: nbformat.NotebookNode) -> None:
    """`study.figure` and `figures.interactive` set it; IPython's Image would not."""
    assert not re.search(r"\bImage\(", "\n".join(cell.source for cell in code_cells(notebook)))


def test_no_widget_needs_a_kernel(notebook: nbformat.NotebookNode) -> None:
    """What can be moved moves in the report, too: `figures.interactive` needs scripts alone."""
    assert not re.search(r"\bipywidgets\b|@interact\b", "\n".join(cell.source for cell in code_cells(notebook)))


def test_prose_holds_no_results(notebook: nbformat.NotebookNode) -> None:
    text = re.sub(r"\$\$.*?\$\$|\$.*?\$|```.*?```", "", prose(notebook), flags=re.S)  # formulas, code
    text = re.sub(r"^#+ .*|arXiv \d+\.\d+|Section \d\.\d|\b(of|in) \d\.\d\b", "", text, flags=re.M)  # where to look
    unknown = set(re.findall(r"\d+\.\d+", text)) - set(PUBLISHED)
    assert not unknown, f"{sorted(unknown)}: print results from tables, or name the source in PUBLISHED"


def test_declared_artefacts_are_made(notebook: nbformat.NotebookNode) -> None:
    from tcseg.study.paths import NOTEBOOKS

    assert tuple(NOTEBOOKS) == NAMES
    code = re.sub(r"\(\s+", "(", "\n".join(cell.source for cell in code_cells(notebook)))
    for artefact in NOTEBOOKS[notebook.metadata["name"]]:
        stem = Path(artefact).stem
        if stem in ABLATION_SWEEPS and "study.write_table(name, sweeps.table(study, name)) for name in ABLATION_SWEEPS" in code:
            continue
        made = {".csv": f'write_table("{stem}"', ".png": f'figure("{stem}"', ".gif": f'"{stem}.gif"'}
        assert made[Path(artefact).suffix] in code, artefact


def test_no_two_figures_share_a_name() -> None:
    names = []
    for name in NAMES:
        for cell in code_cells(nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)):
            found = calls(ast.parse(cell.source), "figure")
            names += [call.args[0].value for call in found if ast.unparse(call.func) == "study.figure"]
    assert len(names) == len(set(names)), sorted(name for name in names if names.count(name) > 1)
