"""The page on many machines: its scripts are shell, its manifest is a Kubernetes job, and its parts are all of a sweep."""

import json
import re
import subprocess
from pathlib import Path

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "notebooks" / "cluster.md").read_text(encoding="utf-8")
SCHEMA = json.loads(Path(__file__).with_name("kubernetes_job.json").read_text())
SCRIPTS = re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
MANIFEST = re.search(r"```yaml\n(.*?)```", PAGE, re.DOTALL)[1]


def shell(script: str, *options: str, **environment: str) -> subprocess.CompletedProcess:
    environment["PATH"] = "/usr/bin:/bin"
    return subprocess.run(["bash", *options], input=script, capture_output=True, text=True, env=environment)


@pytest.mark.parametrize("script", SCRIPTS)
def test_each_script_is_shell(script):
    done = shell(script, "-n")
    assert (done.returncode, done.stderr) == (0, "")


def test_the_array_s_tasks_ask_for_the_parts_of_a_sweep(tmp_path):
    (script,) = [one for one in SCRIPTS if "#SBATCH" in one]
    first, last = map(int, re.search(r"--array=(\d+)-(\d+)", script).groups())
    said = shell(
        script.replace(".venv/bin/tcseg", "echo"), SLURM_CPUS_PER_TASK="4", SLURM_ARRAY_TASK_ID=str(last),
        SLURM_ARRAY_TASK_COUNT=str(last - first + 1),
    )  # fmt: skip
    assert said.stdout == f"sweep --dataset procity --profile laptop --part {last}/{last}\n" and first == 1, said.stderr


def test_the_manifest_is_a_job():
    jsonschema.validate(yaml.safe_load(MANIFEST), SCHEMA)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("completions: 8", "completion: 8"),
        ("completions: 8", "completions: eight"),
        ("mountPath", "mount"),
        ("kind: Job", "kind: Jop"),
        ("        - name: sweep\n          image", "        - image"),
        ('value: "4"', "value: 4"),
    ],
)
def test_a_wrong_manifest_is_refused(right, wrong):
    assert right in MANIFEST
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(yaml.safe_load(MANIFEST.replace(right, wrong)), SCHEMA)


def test_the_pods_ask_for_the_parts_of_a_sweep():
    job = yaml.safe_load(MANIFEST)["spec"]
    (container,) = job["template"]["spec"]["containers"]
    assert container["command"] == ["/bin/sh", "-c"]
    parts = [
        re.search(r"--part (\S+)", shell(container["args"][0].replace("exec tcseg", "echo"), JOB_COMPLETION_INDEX=str(i)).stdout)[1]
        for i in range(job["completions"])
    ]
    assert parts == [f"{i}/{job['completions']}" for i in range(1, job["completions"] + 1)]
