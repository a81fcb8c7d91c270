"""What `--tasks` means."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ground.errors import UserError
from training.tasks.groups import GROUPS, leaves, parse_tasks

MEMBERS = sorted({member for members in GROUPS.values() for member in members})


@given(st.sampled_from(sorted(GROUPS)), st.sets(st.sampled_from(MEMBERS)))
def test_weights_sum_to_one_and_dropped_tasks_are_gone(group: str, without: set[str]) -> None:
    weights = leaves(group, without)
    assert not set(weights) & without
    assert not weights or abs(sum(weights.values()) - 1) < 1e-12


def test_the_mmlu_subjects_count_as_one_of_four() -> None:
    weights = leaves("medical")
    assert weights["pubmedqa"] == 0.25
    assert weights["mmlu_anatomy"] == pytest.approx(0.05)
    assert len(weights) == 8
    assert len(leaves("general")) == 10


def test_groups_and_tasks_mix_and_each_task_stands_once() -> None:
    tasks, groups = parse_tasks(" medqa_4options, medical,-mmlu_anatomy ,mine")
    assert tasks[0] == "medqa_4options"
    assert tasks[-1] == "mine"
    assert len(tasks) == len(set(tasks)) == 8
    assert set(groups) == {"mmlu_medical", "medical"}
    assert groups["mmlu_medical"]["mmlu_medical_genetics"] == 0.25


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "names no task"),
        ("general,-general", "names no task"),
        ("medical,-race", "-race leaves out what was not in"),
    ],
)
def test_mistakes_are_named(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_tasks(text)
