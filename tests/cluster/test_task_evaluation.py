"""Tasks answered at checkpoints, beside a run that must not notice it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from ground.errors import UserError
from tests.soak.runs import Bench, Command, Setting, curves, differences
from training.config import EvaluationConfig
from training.tasks.check import check_tasks
from training.tasks.results import read_evaluation

SETTING = Setting(1, 1)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "items"
    folder.mkdir()
    rows = [{"question": f"what is number {i}", "options": ["yes", "no"], "answer": i % 2} for i in range(6)]
    (folder / "piqa.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_tasks_that_cannot_be_answered_are_known_before(data: Path) -> None:
    check_tasks(EvaluationConfig(tasks="piqa", tasks_data=str(data)))
    check_tasks(EvaluationConfig())
    with pytest.raises(UserError, match="sciq"):
        check_tasks(EvaluationConfig(tasks="sciq", tasks_data=str(data)))


@pytest.mark.long
def test_every_checkpoint_is_answered_while_training_goes_on(tmp_path: Path, data: Path) -> None:
    pytest.importorskip("lm_eval", reason="lm-eval is not installed")
    bench = Bench(tmp_path)
    expected = bench.reference(SETTING)
    changes = ("evaluation.tasks=piqa", f"evaluation.tasks_data={data}", "training.checkpoint_tokens=81920")
    command = Command(bench, SETTING, tmp_path / "run", dict(os.environ), *changes, "training.keep_checkpoints=5")
    assert command.wait(400) == 0, command.last_words()
    assert differences(command, expected) == []
    answered = {
        record["tokens"]: record["metrics"]["task/piqa/accuracy"]
        for record in command.records()
        if "task/piqa/accuracy" in record["metrics"]
    }
    assert list(answered) == [40 * 2048, 80 * 2048, 120 * 2048], command.log.read_text()[-3000:]
    assert all(accuracy * 6 == pytest.approx(round(accuracy * 6)) for accuracy in answered.values())
    kept = read_evaluation(command.run_folder / "tasks" / "step-120")
    assert (len(kept.items), kept.tasks[0].acc) == (6, answered[120 * 2048])
    assert "task/piqa/accuracy" not in {name for name, _ in curves(command.records())}
