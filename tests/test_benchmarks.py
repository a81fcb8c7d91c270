"""The format of results and the table in benchmarks/README.md; nothing here asserts a time."""

from __future__ import annotations

import ast
import json
import socket
from pathlib import Path

import pytest

from benchmarks.__main__ import NAMES, main
from benchmarks.harness import Benchmark, Measured, paired_ratio, read_results, result, rounded, write_result
from benchmarks.table import BEGIN, END, README, met, refresh

KEYS = {
    "name",
    "value",
    "unit",
    "goal",
    "higher_is_better",
    "baseline",
    "details",
    "machine",
    "versions",
    "commit",
    "date",
}


def sample(name: str = "sample", value: float = 0.97, goal: float | None = 0.95) -> dict[str, object]:
    baseline = {"name": "plain loop", "value": 1234.5, "unit": "tokens/s"}
    measured = Measured(value, baseline, {"spread": [0.9, 1.1]})
    benchmark = Benchmark(name, "x", goal, True, "how fast it is, side by side.", lambda: measured)
    return result(benchmark, measured, load=0.1)


def test_a_result_has_the_agreed_keys_and_survives_the_disk(tmp_path: Path) -> None:
    content = sample()
    assert set(content) == KEYS
    assert write_result(content, tmp_path) == tmp_path / "sample.json"
    assert read_results(tmp_path) == [content]
    assert set(json.loads((tmp_path / "sample.json").read_text())["versions"]) >= {
        "python",
        "torch",
        "ray",
        "deepspeed",
    }


def test_a_result_does_not_name_the_machine_or_its_folders() -> None:
    text = json.dumps(sample())
    assert socket.gethostname() not in text
    assert str(Path.cwd()) not in text


@pytest.mark.parametrize(
    ("value", "goal", "higher", "expected"),
    [
        (0.97, 0.95, True, "yes"),
        (0.94, 0.95, True, "no"),
        (31.0, 30, False, "no"),
        (30, 30, False, "yes"),
        (1, None, True, "-"),
    ],
)
def test_whether_a_goal_is_met(value: float, goal: float | None, higher: bool, expected: str) -> None:
    assert met({"value": value, "goal": goal, "higher_is_better": higher}) == expected


def test_refreshing_the_table_keeps_the_rest_and_is_idempotent(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{BEGIN}\nold rows\n{END}\nafter\n")
    results = [sample("one"), sample("two", goal=None)]
    refresh(results, readme)
    once = readme.read_text()
    refresh(results, readme)
    assert readme.read_text() == once
    assert once.startswith("before\n") and once.endswith("after\n") and "old rows" not in once
    assert "| one | 0.97 x | ≥ 0.95 x | yes | plain loop: 1,234.5 tokens/s |" in once
    assert "- `two`: how fast it is, side by side." in once


def test_the_readme_has_the_markers() -> None:
    assert README.read_text().count(BEGIN) == README.read_text().count(END) == 1


def test_committed_results_have_the_agreed_keys() -> None:
    for content in read_results():
        assert set(content) == KEYS
        assert content["name"] in NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_benchmark_states_its_own_name(name: str) -> None:
    tree = ast.parse((README.parent / f"{name}.py").read_text())  # importing them would load Ray and torch
    calls = [
        node for node in ast.walk(tree) if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Benchmark"
    ]
    stated = [ast.literal_eval(word.value) for call in calls for word in call.keywords if word.arg == "name"]
    assert stated == [name]


def test_an_unknown_name_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["no_such_benchmark"]) == 2
    assert "train_vs_plain" in capsys.readouterr().err


def test_paired_ratio_is_immune_to_what_slows_both() -> None:
    ours, theirs = [1.0, 10.0, 2.0, 4.0], [0.9, 9.0, 1.8, 3.6]
    assert paired_ratio(ours, theirs)["median"] == pytest.approx(0.9)


def test_rounding_reaches_into_details() -> None:
    assert rounded({"a": [1.23456, {"b": 2}], "c": "text"}) == {"a": [1.235, {"b": 2}], "c": "text"}
