"""Comparisons of recipes as tables."""

import pandas as pd
import pytest

from tcseg.study.report import effect_tables


def effect_row(**more) -> dict:
    row = {"comparison": "consistent_vs_student", "metric": "flicker_relative", "difference": -0.123}
    row |= {"ci_low": -0.2, "ci_high": 0.01, "seeds": 3, "p_holm": 0.0004, "mdd": 0.055}
    return row | {"seed_difference": -0.12, "seed_low": None, "seed_high": None} | more


LONE = effect_row(metric="miou", ci_low=None, ci_high=None, p_holm=None, mdd=None)


def test_the_primary_comparison_has_intervals_p_and_what_is_detectable():
    table = pd.DataFrame(
        [effect_row(), LONE, effect_row(metric="tc_dis"), effect_row(comparison="kd_vs_student", metric="tc")]
    )
    found = effect_tables.primary(table)
    assert list(found)[1:3] == ["over seeds and clips, 95 %", "over 3 seeds"], "no level where there is no interval"
    assert found.to_numpy().tolist() == [
        ["flicker, %", "−12.3 (−20.0 to +1.0)", "−12.0", "< 0.001", "5.5"],
        ["mIoU, points", "−12.3", "−12.0", "–", "–"],
    ]
    known = effect_tables.primary(table.assign(seed_low=-0.2, seed_high=0.1))
    assert "over 3 seeds, 95 %" in known and known.iloc[0, 2] == "−12.0 (−20.0 to +10.0)"


def test_one_seed_gives_no_test_and_one_clip_no_interval():
    alone = effect_tables.primary(pd.DataFrame([effect_row(seeds=1)]))
    assert alone.to_numpy().tolist() == [["flicker, %", "−12.3 (−20.0 to +1.0) over clips alone", "–", "–", "–"]]
    nothing = effect_tables.primary(pd.DataFrame([LONE | {"seeds": 1}]))
    assert nothing.iloc[0, 1] == "−12.3" and not any("95 %" in head for head in nothing)


def test_a_comparison_that_was_not_made_is_empty():
    another = pd.DataFrame([effect_row(comparison="kd_vs_student")])
    for table in (another, another.iloc[:0], pd.DataFrame()):  # iloc: the table has rows of other studies alone
        assert effect_tables.primary(table).empty and effect_tables.against_longer(table).empty
        assert effect_tables.both_longer(table)[0] == "" and effect_tables.comparison(table).empty
    assert effect_tables.last_doubling(pd.DataFrame()) is None


def test_students_that_were_trained_for_longer_have_a_column_each():
    longer = effect_row(comparison="consistent_vs_student_4x", difference=-0.1, seeds=2)
    table = pd.DataFrame([effect_row(), LONE, longer])
    assert effect_tables.against_longer(table).to_dict("records") == [
        {
            "compared with a student trained for": "flicker, %",
            "the same number of steps (3 seeds)": "−12.3 (−20.0 to +1.0)",
            "four times as many steps (2 seeds)": "−10.0 (−20.0 to +1.0)",
        }
    ], "only metrics that all of them have"
    assert effect_tables.against_longer(table.iloc[:2]).empty
    both = pd.DataFrame([effect_row(), LONE]).assign(comparison="consistent_4x_vs_student_4x")
    steps, rows = effect_tables.both_longer(both)
    assert steps == "four times as many" and set(rows.index) == {"miou", "flicker_relative"}


def test_the_last_doubling_is_that_of_the_plain_student_with_most_steps():
    gains = {"student,steps=4x_vs_student,steps=2x": 0.017, "student,steps=8x_vs_student,steps=4x": 0.001}
    gains |= {"consistent,steps=4x_vs_student,steps=4x": 0.3, "student,steps=0.5x_vs_student": 0.3}
    changes = pd.DataFrame({"comparison": list(gains), "metric": "miou", "difference": gains.values()})
    found = effect_tables.last_doubling(changes)
    assert (found["times"], found["difference"]) == (8.0, 0.001)
    found = effect_tables.last_doubling(changes.iloc[[0, 2, 3]])
    assert (found["times"], found["difference"]) == (4.0, 0.017)
    assert effect_tables.last_doubling(changes.iloc[[2, 3]]) is None


@pytest.mark.parametrize(
    ("comparison", "words"),
    [
        ("consistent_vs_student", "consistent − student"),
        ("consistent_2x_vs_student_2x", "consistent 2x − student 2x"),
        ("kd,method=cwd,distillation=3_vs_kd", "kd: method=cwd, distillation=3"),
        ("kd,steps=2x_vs_student,steps=2x", "steps=2x: kd − student"),
        ("kd,labelled_share=0.0625_vs_student,labelled_share=0.0625", "labels 1/16: kd − student"),
        ("student,steps=4x_vs_student,steps=2x", "student: steps=4x − steps=2x"),
        ("student_vs_student,steps=0.5x", "student: as it is − steps=0.5x"),
        ("consistent,temporal=6_vs_student", "consistent, temporal=6 − student"),
        ("kd+tl,form=soft_tc,temporal=3,gap=2_vs_kd+tl", "kd+tl: form=soft_tc, temporal=3, gap=2"),
    ],
)
def test_a_comparison_is_said_once_for_what_both_sides_share(comparison, words):
    assert effect_tables.in_words(comparison) == words


def test_differences_stand_in_order_with_intervals_and_dashes():
    rows = [("b_vs_a", "miou", 0.012, -0.003, 0.027, 0.2, 3), ("b_vs_a", "tc", 0.1, None, None, None, 3)]
    rows.append(("a_vs_0", "miou", -0.5, -0.6, -0.4, 0.01, 1))
    table = pd.DataFrame(rows, columns=["comparison", "metric", "difference", "ci_low", "ci_high", "p_holm", "seeds"])
    found = effect_tables.intervals(table, {"miou": "mIoU", "tc": "TC", "flicker": "flicker"})
    assert found.loc["b − a"].tolist() == [3, "+1.2 (−0.3 to +2.7)", "+10.0", "–"]
    assert found.loc["a − 0"].tolist() == [1, "−50.0 (−60.0 to −40.0) *", "–", "–"]
    assert found.index.tolist() == ["b − a", "a − 0"]
    assert effect_tables.intervals(pd.DataFrame()).empty
