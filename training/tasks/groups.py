"""The tasks and groups of ``steady evaluate``: those of the paper (arXiv:2406.14833, table 1 and section 5)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ground.errors import UserError

GROUPS: dict[str, tuple[str, ...]] = {
    "mmlu_medical": (
        "mmlu_anatomy",
        "mmlu_clinical_knowledge",
        "mmlu_college_medicine",
        "mmlu_medical_genetics",
        "mmlu_professional_medicine",
    ),
    "medical": ("mmlu_medical", "pubmedqa", "medmcqa", "medqa_4options"),
    "general": (
        "arc_easy",
        "arc_challenge",
        "boolq",
        "copa",
        "hellaswag",
        "openbookqa",
        "piqa",
        "race",
        "sciq",
        "winogrande",
    ),
}
"""Group -> members, which may be groups. Names of tasks are lm-eval's. ``medical`` is the mean of four, as in the paper:
its five MMLU subjects count as one."""


def leaves(name: str, without: Iterable[str] = ()) -> dict[str, float]:
    """Task -> its weight in the mean that ``name`` stands for; the weights sum to 1 (a task alone: 1).

    Members of a group weigh the same, whatever their number of items; those in ``without`` are as if never listed.
    Empty when nothing is left.
    """
    dropped = set(without)
    if name in dropped:
        return {}
    if name not in GROUPS:
        return {name: 1.0}
    members = [found for member in GROUPS[name] if (found := leaves(member, dropped))]
    weights: dict[str, float] = {}
    for member in members:
        for task, weight in member.items():
            weights[task] = weights.get(task, 0.0) + weight / len(members)
    return weights


def parse_tasks(text: str) -> tuple[list[str], dict[str, dict[str, float]]]:
    """What ``--tasks`` asks for: the tasks in order, each once, and for every group its tasks' weights.

    Args:
        text: names of tasks and groups with commas between; ``-name`` leaves a task or group out again.

    Raises:
        UserError: nothing is named, or nothing is left.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    dropped = [word[1:] for word in words if word.startswith("-")]
    wanted = [word for word in words if not word.startswith("-")]
    tasks: dict[str, None] = {}
    groups: dict[str, dict[str, float]] = {}
    for name in wanted:
        found = leaves(name, dropped)
        tasks.update(dict.fromkeys(found))
        if found:
            groups |= {group: leaves(group, dropped) for group in _groups_within(name)}
    if not tasks:
        raise UserError("--tasks", f"{text!r} names no task", f"name groups ({', '.join(GROUPS)}) or tasks of lm-eval")
    if unused := [name for name in dropped if name not in GROUPS and name not in _all_leaves(wanted)]:
        raise UserError("--tasks", f"-{unused[0]} leaves out what was not in", "correct the name or drop it")
    return list(tasks), {name: weights for name, weights in groups.items() if weights}


def _groups_within(name: str) -> list[str]:
    if name not in GROUPS:
        return []
    return [*(group for member in GROUPS[name] for group in _groups_within(member)), name]


def _all_leaves(names: Sequence[str]) -> set[str]:
    return {task for name in names for task in leaves(name)}
