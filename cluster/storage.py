"""Storage that is gone, full or closed to us is the user's to mend: one line that names the place."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cluster.recipe import Recipe
from ground.errors import UserError, user_error_in

_ALWAYS = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
    errno.EIO,
    errno.ESTALE,
    errno.ENOTCONN,
    errno.EHOSTDOWN,
    errno.ETIMEDOUT,
}
"""What only storage says."""
_IN_A_PLACE = {errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM}
"""What storage says of a file in one of the recipe's folders; elsewhere it is a fault of ours, to be seen whole."""


@contextmanager
def storage_of(recipe: Recipe) -> Iterator[None]:
    """Around work in the recipe's folders.

    Raises:
        UserError: the storage of one of them refused, or went away.
    """
    try:
        yield
    except Exception as error:
        told = None if user_error_in(error) else _explained(error, recipe)
        if told is None:
            raise
        raise told from error


def _explained(error: Exception, recipe: Recipe) -> UserError | None:
    for refused in _os_errors(error):
        place = _place(refused, recipe)
        if refused.errno in _ALWAYS or (refused.errno in _IN_A_PLACE and place):
            field, path = place or ("work", str(refused.filename or recipe.work_folder))
            mend = "check that it is mounted, has room and may be written, then run the same command again"
            return UserError(field, f"{path} cannot be used ({refused.strerror or refused})", mend)
    return None


def _os_errors(error: BaseException) -> Iterator[OSError]:
    """The error and those that it was raised from, also where Ray brought them from a worker."""
    pending: list[BaseException | None] = [error]
    seen: set[int] = set()
    while pending:
        current = pending.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        if isinstance(current, OSError):
            yield current
        pending += [getattr(current, "cause", None), current.__cause__]


def _place(error: OSError, recipe: Recipe) -> tuple[str, str] | None:
    """The recipe's field whose folder holds the file, and the file."""
    if not isinstance(error.filename, str):
        return None
    file = Path(error.filename).absolute()
    places = {"curation.store": recipe.store_folder, "work": recipe.work_folder}
    if recipe.curation.work:
        places["curation.work"] = Path(recipe.curation.work)
    for field, folder in places.items():
        roots = (folder.absolute(), folder.resolve())
        if any(file.is_relative_to(root) or root.is_relative_to(file) for root in roots):
            return field, str(file)
    return None
