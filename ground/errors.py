"""The one family of errors a user sees: one line that names the field, the value and the mend."""

from __future__ import annotations


class UserError(Exception):
    """A mistake the user can mend. The command prints it on one line and exits with code 2.

    Args:
        field: dotted name of the recipe field, or the file, that is wrong.
        problem: what is wrong with it, with the offending value.
        mend: what to do about it.
    """

    def __init__(self, field: str, problem: str, mend: str) -> None:
        self.field, self.problem, self.mend = field, problem, mend
        super().__init__(f"{field}: {problem}; {mend}")

    def __reduce__(self) -> tuple[type[UserError], tuple[str, str, str]]:
        # Ray pickles errors between processes; the default would call __init__ with one argument.
        return type(self), (self.field, self.problem, self.mend)


class CorruptError(UserError):
    """Data on disk that fails its checksum or is incomplete: never to be read as if it were whole."""


def user_error_in(error: BaseException) -> UserError | None:
    """The UserError behind an error that another framework wrapped, or None."""
    seen: set[int] = set()
    pending: list[BaseException | None] = [error]
    while pending:
        current = pending.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        # Ray raises a class that is both its own error and the user's: only the plain one tells its three parts.
        if isinstance(current, UserError) and type(current).__module__ == __name__:
            return current
        pending += [getattr(current, "cause", None), current.__cause__]
    return None
