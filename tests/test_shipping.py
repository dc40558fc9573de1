"""Container, workflows, pinned versions and hooks: each calls what is there, and says what the project says."""

import json
import re
import shlex
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.request
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from typer.main import get_command

from tcseg import __version__
from tcseg.cli import app
from tcseg.study.paths import NOTEBOOKS

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


# ------------------------------------------------------------------------------------------------ the container


def steps(dockerfile: str) -> list[tuple[str, str]]:
    """(instruction, rest) of a Dockerfile, with continued lines joined and comments left out."""
    lines = "\n".join(line for line in dockerfile.splitlines() if not line.lstrip().startswith("#"))
    found = (line.strip().partition(" ") for line in lines.replace("\\\n", " ").splitlines() if line.strip())
    return [(instruction, re.sub(r"\s+", " ", rest)) for instruction, _, rest in found]


STEPS = steps((ROOT / "Dockerfile").read_text())
CMD = json.loads(STEPS[-1][1])


def test_the_container_runs_the_course_as_a_user_without_rights():
    kinds = [kind for kind, _ in STEPS]
    assert kinds[0] == "FROM" and kinds[-1] == "CMD" and ("EXPOSE", "8888") in STEPS
    users = [(place, rest) for place, (kind, rest) in enumerate(STEPS) if kind == "USER"]
    ((place, user),) = users
    rights = [rest for kind, rest in STEPS[:place] if kind == "RUN"]
    assert user == "1000" and "--uid 1000 learner" in rights[0]
    assert not any(kind == "RUN" and ("apt-get" in rest or "sudo" in rest) for kind, rest in STEPS[place:])
    assert all("--chown=learner" in rest for kind, rest in STEPS if kind == "COPY")
    assert CMD[:2] == ["tcseg", "lab"] and "--ip=0.0.0.0" in CMD and "--port=8888" in CMD


def test_the_container_installs_what_the_project_says():
    installs = [rest for kind, rest in STEPS if kind == "RUN" and "pip install" in rest]
    assert len(installs) == 2 and all("--constraint constraints.txt" in rest for rest in installs)
    assert "--index-url https://download.pytorch.org/whl/cpu torch torchvision" in installs[0]
    extras = re.search(r"--editable '\.\[([a-z,]+)\]'", installs[1])[1].split(",")
    assert set(extras) <= set(PROJECT["optional-dependencies"]) and "deploy" in extras
    system = next(rest for kind, rest in STEPS if kind == "RUN" and "apt-get" in rest)
    asked = set(re.findall(r"'([a-z0-9 .-]+)' mesa|install_line (libg\S+)", (ROOT / ".ci" / "check-system").read_text()))
    assert {name for pair in asked for name in pair if name} <= set(system.split()) >= {"git"}
    assert re.match(r"python:3\.1[12]-slim$", STEPS[0][1])


def test_the_image_takes_neither_data_nor_the_environment_along():
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert {".git", ".venv", "data/*", "!data/README.md"} <= set(ignored)


def test_the_dev_container_is_the_same_image():
    told = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())
    folder = ROOT / ".devcontainer"
    assert (folder / told["build"]["dockerfile"]).resolve() == ROOT / "Dockerfile"
    assert (folder / told["build"]["context"]).resolve() == ROOT
    assert told["remoteUser"] == "learner" and told["forwardPorts"] == [8888]
    extras = re.search(r"\.\[([a-z,]+)\]", told["postCreateCommand"])[1].split(",")
    assert set(extras) <= set(PROJECT["optional-dependencies"])


@pytest.mark.slow
def test_the_containers_command_serves_the_chapters(tmp_path):
    """Ten seconds. The last line of the Dockerfile, on another port and on this machine alone."""
    port, token = 18888, "of-this-test"
    changed = {"--ip=0.0.0.0": "--ip=127.0.0.1", "--port=8888": f"--port={port}"}
    words = [sys.executable, "-m", *(changed.get(word, word) for word in CMD)]
    words += ["--out", tmp_path / "course", f"--IdentityProvider.token={token}", "--allow-root", "--ServerApp.port_retries=0"]
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen([*map(str, words)], stdout=log, stderr=log, cwd=ROOT)
    try:
        names = {one["name"] for one in ask(f"http://127.0.0.1:{port}/api/contents?token={token}", server, tmp_path / "log")}
    finally:
        server.terminate()
        server.wait(30)
    assert names == {f"{name}.ipynb" for name in NOTEBOOKS}


def ask(address: str, server: subprocess.Popen, log: Path) -> list[dict]:
    """What a Jupyter server has in its folder, as soon as it answers."""
    for _ in range(600):
        assert server.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(address, timeout=5) as answer:
                return json.load(answer)["content"]
        except (urllib.error.URLError, TimeoutError):
            time.sleep(0.2)
    raise AssertionError(f"no answer: {log.read_text()}")


# ------------------------------------------------------------------------------------------------ workflows


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_calls_what_is_there_and_may_no_more_than_it_needs(path):
    text = path.read_text()
    workflow = yaml.load(text, yaml.BaseLoader)  # `on` stays a word
    runs = [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    called = {word for run in runs for word in re.findall(r"\bmake ([a-z-]+)", run)}
    assert called <= TARGETS and not re.search(r"\$\{\{", "\n".join(runs)), "values come in by env: no text becomes a command"
    for script in re.findall(r"(?:sh )?(\.ci/[\w-]+)", "\n".join(runs)):
        assert (ROOT / script).is_file(), script
    jobs = workflow["jobs"].values()
    assert all("timeout-minutes" in job for job in jobs)
    assert all(re.fullmatch(r"[\w-]+/[\w-]+@v\d+", step["uses"]) for job in jobs for step in job["steps"] if "uses" in step)
    if path.stem != "ci":
        assert workflow["permissions"] == {"contents": "read"}, "a job asks for more by itself"


def test_pages_publishes_what_make_report_builds_and_the_copies_for_colab():
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "pages.yml").read_text())["jobs"]
    built = [step.get("run", "").split()[:2] for step in jobs["report"]["steps"]]
    assert ["make", "report"] in built and ["make", "colab"] in built
    paths = [step["with"]["path"] for step in jobs["report"]["steps"] if "upload" in step.get("uses", "")]
    assert paths == ["data/study/procity-laptop-reference/report", "build/colab"]
    assert jobs["publish"]["permissions"] == {"pages": "write", "id-token": "write"}
    assert "colab" in jobs["colab"]["steps"][-1]["run"].split()


def check_release(folder: Path, tag: str) -> subprocess.CompletedProcess:
    return subprocess.run(["/bin/sh", str(ROOT / ".ci" / "check-release"), tag], cwd=folder, capture_output=True, text=True)


@pytest.fixture
def released(tmp_path) -> Path:
    (tmp_path / "tcseg").mkdir()
    (tmp_path / "tcseg" / "__init__.py").write_text('__version__ = "1.2.3"\n')
    (tmp_path / "CITATION.cff").write_text("cff-version: 1.2.0\nversion: 1.2.3\n")
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## 1.2.3, 2026-12-01\n\n## 1.2.2, 2026-11-01\n")
    return tmp_path


def test_a_release_has_one_version(released):
    done = check_release(released, "v1.2.3")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("tcseg/__init__.py", '__version__ = "1.2.4"\n', "tcseg/__init__.py says '1.2.4', the tag says '1.2.3': set __version__"),
        ("CITATION.cff", "version: 1.2.2\n", "CITATION.cff says '1.2.2', the tag says '1.2.3': make documents"),
        ("CHANGELOG.md", "## 1.2.3, unreleased\n", "CHANGELOG.md says '', the tag says '1.2.3': head its part '## 1.2.3, DATE'"),
    ],
)
def test_a_release_that_is_not_ready_is_refused_with_the_fix(released, file, text, said):
    (released / file).write_text(text)
    done = check_release(released, "v1.2.3")
    assert done.returncode == 1 and done.stderr.startswith(said) and done.stderr.count("\n") == 1


def test_a_tag_that_is_no_version_is_refused(released):
    done = check_release(released, "nightly")
    assert done.returncode == 1 and "tag is 'nightly'; give v and a version" in done.stderr


def test_the_version_is_where_a_release_looks_for_it():
    assert f'__version__ = "{__version__}"\n' in (ROOT / "tcseg" / "__init__.py").read_text()
    assert f"\nversion: {__version__}\n" in (ROOT / "CITATION.cff").read_text()
    assert re.search(rf"^## {re.escape(__version__)}, ", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)


# ------------------------------------------------------------------------------------------------ versions, hooks


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def test_each_dependency_is_pinned_within_its_bounds():
    pinned = pins()
    assert list(pinned) == sorted(map(canonicalize_name, pinned)) and not any("+" in one for one in pinned.values())
    extras = {name: one for name, one in PROJECT["optional-dependencies"].items() if name != "cluster"}  # `make env` has no ray
    for text in (*PROJECT["dependencies"], *(one for extra in extras.values() for one in extra)):
        requirement = Requirement(text)
        found = pinned.get(canonicalize_name(requirement.name))
        assert found and requirement.specifier.contains(found), f"{text}, pinned is {found}: make constraints"


def test_the_pins_allow_each_other():
    """What is installed in the pinned version asks for nothing that another pin forbids."""
    from importlib.metadata import requires

    pinned, clashes = pins(), []
    for name, wanted in pinned.items():
        try:
            if version(name).split("+")[0] != wanted:
                continue
        except PackageNotFoundError:
            continue
        for requirement in map(Requirement, requires(name) or []):
            here = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
            found = pinned.get(canonicalize_name(requirement.name))
            if here and found and not requirement.specifier.contains(found, prereleases=True):
                clashes.append(f"{name} {wanted} needs {requirement}, pinned is {found}")
    assert clashes == []


def test_the_hook_of_a_commit_is_make_lint():
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    (hook,) = repository["hooks"]
    assert (repository["repo"], hook["entry"], hook["language"]) == ("local", "make lint", "system")
    assert not hook["pass_filenames"] and all(re.search(hook["files"], name) for name in ("tcseg/api.py", "notebooks/a.ipynb"))


@pytest.mark.parametrize("words", [shlex.split("lab --chapter 4 --no-browser"), CMD[1:]])
def test_lab_takes_jupyters_options(words):
    command = get_command(app).commands[words[0]]
    context = command.make_context("lab", [*words[1:]])
    assert context.params["chapter"] in ("4", None) and all(word.startswith("--") for word in context.args)
