"""The format of results and the table in benchmarks/README.md; nothing here asserts a time."""

from __future__ import annotations

import ast
import dataclasses
import json
import socket
import threading
import time
from pathlib import Path

import pytest

from benchmarks import gpu
from benchmarks.__main__ import GPU_NAMES, NAMES, main
from benchmarks.checkpoint_overhead import checkpoint_costs
from benchmarks.data_wait import waiting
from benchmarks.gpu import cases, line, summary
from benchmarks.gpu_cases import Case
from benchmarks.harness import Benchmark, Measured, paired_ratio, read_results, result, rounded, write_result
from benchmarks.side_by_side import largest_difference
from benchmarks.table import BEGIN, END, README, met, refresh
from benchmarks.training_sample import BATCH_TOKENS
from benchmarks.turns import Gate, Referee

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
        assert content["name"] in (*NAMES, *GPU_NAMES)


@pytest.mark.parametrize("name", [*NAMES, *GPU_NAMES])
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


def _walk(side: str, gates: list[str], path: Path, order: list[tuple[str, int]]) -> None:
    gate = Gate(side, 0, str(path))
    for step, pause in enumerate(gates):
        gate.wait()
        order.append((side, step))
        time.sleep(float(pause))


def test_two_programs_take_their_steps_in_turn_and_then_run_freely(tmp_path: Path) -> None:
    order: list[tuple[str, int]] = []
    path = tmp_path / "gate"
    referee = Referee(path, {"one": 1, "other": 1}, lambda: None)
    threads = [
        threading.Thread(target=_walk, args=(side, [pause] * 5, path, order), daemon=True)
        for side, pause in (("one", "0.02"), ("other", "0"))
    ]
    for thread in threads:
        thread.start()
    turns = referee.play(4, starting_seconds=10)
    for thread in threads:
        thread.join(10)
    referee.close()
    # Which side is first changes from step to step, so that a drift of the machine favours neither.
    assert order[:8] == [
        ("other", 0), ("one", 0), ("one", 1), ("other", 1), ("other", 2), ("one", 2), ("one", 3), ("other", 3),
    ]  # fmt: skip
    assert sorted(order[8:]) == [("one", 4), ("other", 4)]
    assert (
        len(turns["one"].seconds) == len(turns["other"].processor_seconds) == len(turns["other"].delayed_seconds) == 4
    )
    assert min(turns["one"].seconds) >= 0.02


def test_a_program_that_dies_at_its_start_ends_the_comparison(tmp_path: Path) -> None:
    def check() -> None:
        raise RuntimeError("one ended with 1")

    referee = Referee(tmp_path / "gate", {"one": 1}, check)
    with pytest.raises(RuntimeError, match="one ended with 1"):
        referee.play(1, starting_seconds=10)
    referee.close()


@pytest.mark.parametrize("other", [[2.0, 1.0], [2.0, 1.0, 0.5, 0.4], [2.0, 1.001, 0.5], [2.0, float("nan"), 0.5]])
def test_programs_that_do_not_do_the_same_work_are_not_compared(other: list[float]) -> None:
    assert largest_difference([2.0, 1.0, 0.5], [2.0, 1.0, 0.5 + 1e-6]) == pytest.approx(1e-6)
    with pytest.raises(RuntimeError, match="the programs differ"):
        largest_difference([2.0, 1.0, 0.5], other)


def _checkpointed() -> tuple[dict[int, float], dict[int, float], dict[int, float]]:
    """Steps of 1 s; one of 1.5 and one of 1.2 s after step 5, one of 3 s after step 12; what is whole when."""
    seconds = dict.fromkeys(range(2, 21), 1.0) | {6: 1.5, 7: 1.2, 13: 3.0}
    ends = {1: 0.0}
    for step, took in seconds.items():
        ends[step] = ends[step - 1] + took
    return seconds, ends, {5: ends[5] + 2.0, 12: ends[12] + 0.5}


def test_a_checkpoint_costs_what_the_steps_that_it_touches_take_longer() -> None:
    costs, quiet = checkpoint_costs(*_checkpointed(), uncounted={2, 3})
    assert [(cost.extra, cost.held) for cost in costs] == [
        (pytest.approx(0.7), pytest.approx(0.5)),
        (pytest.approx(2.0), pytest.approx(2.0)),
    ]
    assert quiet == [1.0] * 12


def test_a_checkpoint_that_meets_the_next_or_something_else_is_not_measured() -> None:
    seconds, ends, written = _checkpointed()
    costs, _ = checkpoint_costs(seconds, ends, written, uncounted={14})
    assert len(costs) == 1
    with pytest.raises(RuntimeError, match="more slowly than they are taken"):
        checkpoint_costs(seconds, ends, written | {5: ends[12]}, uncounted=set())
    with pytest.raises(RuntimeError, match="something else"):
        checkpoint_costs(seconds, ends, written, uncounted={6, 14})


def test_waiting_for_data_is_the_share_of_all_steps_but_the_first() -> None:
    speed = {"train/tokens_per_second": BATCH_TOKENS / 2}
    found = waiting([speed | {"train/data_wait": share} for share in (0.5, 0.0, 0.01, 0.02)])
    assert found["share"] == pytest.approx(0.01)
    assert found["first_wait_ms"] == pytest.approx(1000)
    assert found["largest_wait_ms"] == pytest.approx(40)


def _gpu_row(program: str, stage: int, rate: float, **other: object) -> dict[str, object]:
    case = next(c for c in cases(["1.1b"], [1, 2, 3], 9, compiled=[True]) if (c.program, c.stage) == (program, stage))
    row = {"label": case.label, "tokens_per_s": rate, "mfu": rate * 7.7e9 / 989e12, "device": "a card"}
    return dataclasses.asdict(case) | row | other


def test_the_gpu_table_holds_steady_against_the_plain_loop_and_shows_failures() -> None:
    rows = [_gpu_row("plain", 0, 80_000.0), _gpu_row("steady", 1, 78_000.0), _gpu_row("steady", 3, 70_000.0)]
    failed = {key: value for key, value in _gpu_row("steady", 2, 0.0).items() if key != "tokens_per_s"}
    rows.append(failed | {"error": "no memory left"})
    found = summary(rows)
    assert found is not None
    assert found.value == pytest.approx(78_000 * 7.7e9 / 989e12)
    assert found.baseline is not None and found.baseline["value"] == 80_000.0
    assert [row["over_plain"] for row in found.details["rows"]] == [1.0, 0.975, 0.875]
    assert "0.975x plain" in line(rows[1], rows) and "no memory left" in line(rows[3], rows)
    assert summary(rows[:1]) is None


def test_the_gpu_command_goes_on_with_what_is_missing_and_needs_less_memory_when_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[tuple[str, int, int, str]] = []

    def attempt(case: Case, folder: Path, seconds: float) -> tuple[dict[str, object] | None, str]:
        tried.append((case.program, case.stage, case.micro_batch, case.via))
        if case.stage == 1 and case.micro_batch > 4:
            return None, "torch.OutOfMemoryError: CUDA out of memory"
        if case.stage == 2 and case.via == "ray":
            return None, "Ray did not start"
        return dataclasses.asdict(case) | {"label": case.label, "tokens_per_s": 1.0, "mfu": None}, ""

    monkeypatch.setattr(gpu, "_one", attempt)
    wanted = cases(["1.1b"], [1, 2], 9, compiled=[True])
    rows = gpu.measure_all(wanted[:2], tmp_path, via="auto", seconds=60)
    assert tried == [("plain", 0, 8, "core"), ("steady", 1, 8, "ray"), ("steady", 1, 4, "ray")]
    assert rows[1]["micro_batch"] == 4
    tried.clear()
    rows = gpu.measure_all(wanted, tmp_path, via="auto", seconds=60)
    assert tried == [("steady", 2, 8, "ray"), ("steady", 2, 8, "core")]
    assert [row["stage"] for row in rows] == [0, 1, 2]
