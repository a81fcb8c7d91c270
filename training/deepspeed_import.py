"""Importing DeepSpeed without what training never uses, which costs more than all the rest."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterator
from typing import Any


def import_deepspeed() -> Any:
    """Import DeepSpeed, only where training really happens, and without two things it loads but training never uses:
    MLflow for its autotuner (1.2 of 1.4 s of processor time) and torch's compiler for the Muon optimiser (1.2 s).
    """
    with _hidden("mlflow"):
        import deepspeed
    with contextlib.suppress(ImportError, AttributeError), _uncompiled(deepspeed.runtime.compiler):
        importlib.import_module("deepspeed.runtime.zero.muon.original_muon")
    return deepspeed


@contextlib.contextmanager
def _hidden(module: str) -> Iterator[None]:
    """Make importing ``module`` fail inside the block, unless it is loaded already."""
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]  # Python's own way to say: cannot be imported
    try:
        yield
    finally:
        del sys.modules[module]


@contextlib.contextmanager
def _uncompiled(compiler: Any) -> Iterator[None]:
    """Make DeepSpeed's decorator ``compile`` leave functions as they are inside the block."""
    original = compiler.compile
    compiler.compile = lambda *_, **__: lambda function: function
    try:
        yield
    finally:
        compiler.compile = original


def skip_shared_memory_kernel(deepspeed: Any) -> None:
    """Keep DeepSpeed from compiling a kernel that only serves inference (52 s cold); gloo carries training."""
    builders = getattr(deepspeed.ops, "__compatible_ops__", None)
    if isinstance(builders, dict):
        builders["deepspeed_shm_comm"] = False
