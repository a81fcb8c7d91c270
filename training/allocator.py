"""Keeping freed memory in a CPU worker, instead of giving it back to the system and asking for it again at every step."""

from __future__ import annotations

import contextlib
import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # M_... of malloc.h
_MAPPED_ALONE = 32 << 20  # bytes; the most that glibc takes
_KEPT = 1 << 30


def keep_freed_memory() -> bool:
    """Let the C library keep up to a gigabyte of freed memory for the next step; False where it is not glibc.

    Activations of a small model are freed and allocated again at every step. Outside the main thread, where Ray Train trains,
    glibc returns them to the system in between, and every page is then mapped and cleared anew.
    """
    with contextlib.suppress(AttributeError, OSError):
        mallopt = ctypes.CDLL(None).mallopt
        return bool(mallopt(_MMAP_THRESHOLD, _MAPPED_ALONE)) and bool(mallopt(_TRIM_THRESHOLD, _KEPT))
    return False
