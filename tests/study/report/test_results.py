"""Values for the text of the results."""

import pandas as pd
import pytest

from tcseg.study.report import results


def run(name, seed, tc, ceiling, **recipe):
    recipe = {"temporal": 0.0, "teacher": "none", **recipe}
    metrics = {"miou": 0.5, "tc": tc, "tc_ceiling": ceiling}
    return {"dataset": "procity", "recipe_name": name, "seed": seed, "recipe": recipe, "metrics": metrics}


def test_scores_of_runs_by_both_flows():
    top = {"exact": 1.0, "dis": 0.8}
    runs = [
        run("student", 0, {"exact": 0.6, "dis": 0.5}, top),
        run("student", 1, {"exact": 0.8, "dis": 0.5}, top),
        run("student+tl", 0, {"exact": 0.9, "dis": 0.6}, top, temporal=3.0),
        run("tl-dis", 0, {"exact": 0.7, "dis": 0.7}, top, temporal=3.0, flow="dis"),
        run("trajectory", 0, {"exact": 0.7, "dis": 0.7}, top, teacher="trajectory", flow="dis"),
        run("kd", 0, {"exact": 0.7, "dis": 0.7}, top, teacher="plain"),
    ]
    table = results.flow_scores(runs).set_index(["recipe", "scored_with"])
    assert table.loc[("student", "exact"), "tc"] == pytest.approx(0.7) and table.loc[("student", "exact"), "seeds"] == 2
    assert table.loc[("tl-dis", "dis"), "share"] == pytest.approx(0.7 / 0.8)
    flows = table.xs("exact", level="scored_with")["trained_with"].to_dict()
    expected = {"student": "none", "student+tl": "exact", "tl-dis": "dis", "trajectory": "dis", "kd": "none"}
    assert flows == expected


def test_scores_of_runs_without_truth():
    table = results.flow_scores([run("student", 0, {"dis": 0.6}, {"dis": None})])
    assert table["ceiling"].isna().all() and table["share"].isna().all() and table["tc"].tolist() == [0.6]
    assert results.flow_scores([]).empty


def test_coverage_keeps_the_order_of_the_methods_and_says_what_is_missing():
    rows = [("miou", "plain", 6, 0.9), ("miou", "plain", 12, 0.95), ("miou", "adjusted", 12, 0.951)]
    table = results.covered(pd.DataFrame(rows, columns=["metric", "method", "clusters", "coverage"]), ["metric"])
    assert table.columns.tolist() == ["metric", "method", "6", "12"]
    assert table.to_numpy().tolist() == [["miou", "plain", "90.0", "95.0"], ["miou", "adjusted", "–", "95.1"]]
