"""The origin of each committed file, and the time that it took."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from tcseg.machine import machine_facts
from tcseg.study.paths import FIGURES
from tcseg.study.run_ids import EVALUATED, EVALUATION_CODE, TRAINING_CODE, code_key
from tcseg.study.runs import git_state, now, versions

from .tables import DATA_NAMES, parameters_of, provenance, read_json, read_table


def studies(table: pd.DataFrame) -> list[dict[str, str]]:
    """Data set and profile of a committed table's rows, the embedded data first; smoke, whose numbers mean nothing, is left out."""
    found = table[["dataset", "profile"]].drop_duplicates().to_dict("records") if len(table) else []
    return sorted(
        (one for one in found if one["profile"] != "smoke"), key=lambda one: [*DATA_NAMES].index(one["dataset"])
    )


def measure_seconds(folder: Path, name: str) -> float | None:
    """How long a committed measurement took; None where it was not timed."""
    return provenance(folder)["files"].get(f"tables/{name}.csv", {}).get(f"measure {name}", {}).get("seconds")


# ------------------------------------------------------------------------------------------------ what made each file


def command_of(study: str) -> str:
    """The command that makes what `provenance.json` ascribes to a study or measurement."""
    if study.startswith("measure "):
        return f"tcseg {study}"
    dataset, profile = study.split("-", 1)
    whole = dataset == "procity" and profile != "bench"  # of the others the sweeps alone were trained
    return f"make {'study reference' if whole else 'sweeps rows'} DATASET={dataset} PROFILE={profile}"


def made_by(folder: Path) -> pd.DataFrame:
    """Each committed table and figure: by which command, when, from which commit, on what machine."""
    rows = []
    for name, makers in provenance(folder)["files"].items():
        if name.startswith("runs/") or name.endswith((".json", ".svg")):
            continue
        for study, stamp in makers.items():
            machine = stamp["machine"]
            where = machine.get("gpu") or f"{machine.get('cpu')}, {machine.get('cores')} cores"
            made = {
                "file": name,
                "command": command_of(study),
                "on": stamp["date"][:10],
                "commit": stamp["git"]["sha"][:9],
            }
            rows.append(made | {"machine": where})
    return pd.DataFrame(rows)


def stamp(folder: Path) -> dict:
    """Date, git state, versions and machine of a study's results: of the run that was finished last; of now where there is none."""
    given, ablation = parameters_of(folder), read_table(folder, "ablation")
    named = ablation["run_id"].dropna() if "run_id" in ablation else []
    records = [read_json(path) for run in named if (path := folder / "runs" / run / "record.json").exists()]
    found = {"date": now(), "git": git_state(), "versions": versions(), "machine": machine_facts()}
    if records:
        last = max(records, key=lambda record: record["finished"])
        found = {"date": last["finished"]} | {key: last[key] for key in ("git", "versions", "machine")}
    if given.get("runs") == "reference":
        stamps = provenance(FIGURES)["files"].get("tables/ablation.csv", {})
        found = stamps.get(f"{given.get('dataset')}-{given.get('profile')}", found)
        records = [read_json(path) for path in sorted((FIGURES / "runs").glob("*.json"))]
    return found | {"records": records}


def codes(records: Sequence[dict]) -> pd.DataFrame:
    """By which code runs were trained and scored, a row each, and whether that is the code of today (`today`)."""
    noted = [
        (record.get("training_code", "not noted"), record["evaluation_code"], record["finished"][:10])
        for record in records
        if "evaluation_code" in record
    ]
    found = pd.DataFrame(noted, columns=["training", "evaluation", "day"])
    groups = found.groupby(["training", "evaluation"])["day"].agg(["size", "min", "max"]).reset_index()
    differs = [EVALUATED.get(code) or "not noted" for code in groups["evaluation"]]
    return groups.assign(differs=differs, today=groups["evaluation"] == today()[1]).sort_values(["min", "max"])


def today() -> tuple[str, str]:
    """The codes that train and score today."""
    return code_key(TRAINING_CODE), code_key(EVALUATION_CODE)
