"""Which checkpoints stay."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from ground.files import canonical_json
from training.checkpoint import POSITION, checkpoint_folder
from training.position import Position
from training.retention import Retention, kept, prune

LOSS, ACCURACY = "heldout/med/loss", "task/medical/accuracy"


def position(step: int, loss: float | None = None, accuracy: float | None = None) -> Position:
    known = {LOSS: loss, ACCURACY: accuracy}
    return Position(
        step=step,
        tokens=step * 100,
        seconds=0.0,
        job_digest="",
        shares={},
        world=1,
        zero_stage=1,
        measured={name: value for name, value in known.items() if value is not None},
    )


def test_the_last_the_best_and_one_for_every_so_many_tokens() -> None:
    course = [position(step, loss=abs(step - 4.2), accuracy=abs(step - 7.1)) for step in range(1, 11)]
    assert kept(course, Retention(2)) == {9, 10}
    assert kept(course, Retention(1, best=LOSS)) == {4, 10}
    assert kept(course, Retention(1, best=ACCURACY)) == {1, 10}  # the largest distance from 7.1
    assert kept(course, Retention(1, every_tokens=350)) == {4, 7, 10}
    assert kept([position(1), position(2)], Retention(1, best=LOSS)) == {2}


@given(
    st.lists(st.tuples(st.integers(1, 5), st.floats(0, 9)), min_size=1, max_size=30),
    st.integers(1, 3),
    st.none() | st.integers(100, 2000),
)
def test_removing_early_loses_nothing(gaps: list[tuple[int, float]], last: int, every: int | None) -> None:
    """Pruning after every checkpoint leaves what pruning once at the end would."""
    retention = Retention(last, LOSS, every)
    whole: list[Position] = []
    there: list[Position] = []
    step = 0
    for gap, loss in gaps:
        step += gap
        whole.append(position(step, loss))
        there.append(whole[-1])
        keep = kept(there, retention)
        there = [p for p in there if p.step in keep]
    assert {p.step for p in there} == kept(whole, retention)


def test_pruning_removes_folders(tmp_path: Path) -> None:
    for step in (2, 9, 10, 100):
        folder = checkpoint_folder(tmp_path, step)
        folder.mkdir()
        (folder / POSITION).write_text(canonical_json(position(step).model_dump()))
    (tmp_path / ".step-110.tmp").mkdir()  # being written
    assert sorted(prune(tmp_path, Retention(2))) == [2, 9]
    assert sorted(path.name for path in tmp_path.iterdir()) == [".step-110.tmp", "step-10", "step-100"]
