"""Differences in words."""

import pandas as pd
import pytest

from tcseg.study.report import effect_sentences


def test_effects_have_intervals_p_and_what_is_detectable():
    row = {"comparison": "consistent_vs_student", "metric": "flicker_relative", "difference": -0.123}
    row |= {"ci_low": -0.2, "ci_high": 0.01, "seeds": 3, "p_holm": 0.0004, "mdd": 0.055}
    row |= {"seed_difference": -0.12, "seed_low": None, "seed_high": None}
    lone = row | {"metric": "miou", "ci_low": None, "ci_high": None, "p_holm": None, "mdd": None}
    table = pd.DataFrame([row, lone, row | {"metric": "tc_dis"}, row | {"comparison": "kd_vs_student"}])
    head, _, *lines = effect_sentences.effects_table(table).splitlines()
    assert "over seeds and clips, 95 % | over 3 seeds | p" in head, "no level where there is no interval"
    known = table.assign(seed_low=-0.2, seed_high=0.1)
    assert "over 3 seeds, 95 %" in effect_sentences.effects_table(known)
    assert lines == [
        "| flicker, % | −12.3 (−20.0 to +1.0) | −12.0 | < 0.001 | 5.5 |",
        "| mIoU, points | −12.3 | −12.0 | – | – |",
    ]
    alone = pd.DataFrame([row | {"seeds": 1}])
    assert effect_sentences.effects_table(alone).splitlines()[2] == (
        "| flicker, % | −12.3 (−20.0 to +1.0) over clips alone | – | – | – |"
    ), "one seed gives no test"
    nothing = pd.DataFrame([lone | {"seeds": 1}])  # one clip, one seed
    assert "95 %" not in (told := effect_sentences.effects_table(nothing)) and "over clips" not in told.splitlines()[2]
    assert effect_sentences.effects_table(alone).count("95 %") == 1
    assert effect_sentences.effects_table(table.iloc[3:]) == "" == effect_sentences.effects_table(pd.DataFrame())
    longer = pd.concat(
        [table, pd.DataFrame([row | {"comparison": "consistent_vs_student_4x", "difference": -0.1, "seeds": 2}])]
    )
    assert (
        effect_sentences.last_doubling(pd.DataFrame())
        == ""
        == effect_sentences.both_longer(table)
        == effect_sentences.both_longer(pd.DataFrame())
    )
    both = table.iloc[:2].assign(comparison="consistent_4x_vs_student_4x")
    assert effect_sentences.both_longer(both).startswith("Both trained for four times the steps: mIoU ")
    gains = {"student,steps=4x_vs_student,steps=2x": 0.017, "student,steps=8x_vs_student,steps=4x": 0.001}
    gains |= {"consistent,steps=4x_vs_student,steps=4x": 0.3, "student,steps=0.5x_vs_student": 0.3}
    changes = [(name, "miou", gain, gain - 0.01, gain + 0.01, 3) for name, gain in gains.items()]
    changes = pd.DataFrame(changes, columns=["comparison", "metric", "difference", "ci_low", "ci_high", "seeds"])
    assert "to 8 times as many, gains +0.1 (−0.9 to +1.1) points of mIoU (3 seeds): less than the 0.5 by" in (
        effect_sentences.last_doubling(changes)
    )
    assert (
        "to 4 times as many, gains +1.7" in (told := effect_sentences.last_doubling(changes.iloc[[0, 2]]))
        and "not less" in told
    )
    assert effect_sentences.effects_table(longer).splitlines()[4:] == [
        "",
        "| against a student of | as many steps (3 seeds) | four times the steps (2 seeds) |",
        "|---|--:|--:|",
        "| flicker, % | −12.3 (−20.0 to +1.0) | −10.0 (−20.0 to +1.0) |",
    ]


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
    assert effect_sentences.in_words(comparison) == words


def test_differences_stand_in_order_with_intervals_and_dashes():
    rows = [("b_vs_a", "miou", 0.012, -0.003, 0.027, 0.2, 3), ("b_vs_a", "tc", 0.1, None, None, None, 3)]
    rows.append(("a_vs_0", "miou", -0.5, -0.6, -0.4, 0.01, 1))
    table = pd.DataFrame(rows, columns=["comparison", "metric", "difference", "ci_low", "ci_high", "p_holm", "seeds"])
    found = effect_sentences.intervals(table, {"miou": "mIoU", "tc": "TC", "flicker": "flicker"})
    assert found.loc["b − a"].tolist() == [3, "+1.2 (−0.3 to +2.7)", "+10.0", "–"]
    assert found.loc["a − 0"].tolist() == [1, "−50.0 (−60.0 to −40.0) *", "–", "–"]
    assert found.index.tolist() == ["b − a", "a − 0"]
    assert effect_sentences.intervals(pd.DataFrame()).empty
