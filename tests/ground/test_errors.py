"""One line that names the field, the problem and the mend, and that survives a trip between processes."""

from __future__ import annotations

import pickle

import pytest

from ground.errors import CorruptError, UserError


@pytest.mark.parametrize("kind", [UserError, CorruptError])
def test_message_is_one_line_with_field_problem_and_mend(kind: type[UserError]) -> None:
    error = kind("mixture.shares", "sum to 0.9", "make them sum to 1")
    assert str(error) == "mixture.shares: sum to 0.9; make them sum to 1"


@pytest.mark.parametrize("kind", [UserError, CorruptError])
def test_pickling_keeps_type_and_parts(kind: type[UserError]) -> None:
    copy = pickle.loads(pickle.dumps(kind("field", "problem", "mend")))
    assert type(copy) is kind
    assert (copy.field, copy.problem, copy.mend) == ("field", "problem", "mend")


def test_corruption_is_a_user_error() -> None:
    assert issubclass(CorruptError, UserError)
