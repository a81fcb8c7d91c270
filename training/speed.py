"""How fast a run goes: tokens per second, model FLOPs utilisation, and how long it waits for data."""

from __future__ import annotations

import torch

from training.engine import resolve_precision
from training.flops import device_peak, flops_per_token, measure_cpu_peak
from training.job import Job
from training.model import model_shape


class Speed:
    """Measures over the steps since the last record.

    Args:
        world: workers.
        vocabulary: of the store.
    """

    def __init__(self, job: Job, world: int, device: torch.device, vocabulary: int) -> None:
        shape, size = model_shape(job.model, vocabulary)
        self._flops = flops_per_token(shape, size, job.training.sequence_length)
        self._batch_tokens, self._world = job.training.global_batch_tokens, world
        half = resolve_precision(job.training, device) != "fp32"
        if device.type == "cuda":
            known = device_peak(torch.cuda.get_device_name(device), half)
        else:
            known = measure_cpu_peak(dtype=torch.bfloat16 if half else torch.float32)
        self._peak = job.training.peak_flops or known
        self._steps, self._seconds = 0, 0.0

    def add(self, seconds: float) -> None:
        """One more step took so long."""
        self._steps += 1
        self._seconds += seconds

    def metrics(self, waited: float) -> dict[str, float]:
        """``train/tokens_per_second``, ``train/mfu`` where the device's peak is known, and ``train/data_wait``: the share of
        the time that rank 0 waited for its next batch.

        Args:
            waited: seconds of waiting in these steps.
        """
        per_second = self._steps * self._batch_tokens / self._seconds
        result = {"train/tokens_per_second": per_second, "train/data_wait": waited / self._seconds}
        if self._peak:
            result["train/mfu"] = per_second * self._flops / (self._world * self._peak)
        self._steps, self._seconds = 0, 0.0
        return result
