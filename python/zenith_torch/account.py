"""What an epoch over a Python dataset has come to, in numbers: batches, samples, what was skipped, who waited for whom."""

from __future__ import annotations

from time import perf_counter_ns
from typing import Any

from zenith.errors import BadSamplesError

from zenith_torch.bad_samples import Policy
from zenith_torch.samples import Loss, Parcel


class Account:
    """Of one epoch of one iterator; the loader keeps the newest."""

    def __init__(self, policy: Policy, is_iterable: bool) -> None:
        self.policy = policy
        self.listed = policy.listed() if policy.skips else frozenset()
        """Samples that the quarantine listed when the epoch began."""
        self.batches = 0
        self.samples: int | None = None if is_iterable else 0
        self.skipped_samples = 0
        self.skipped_batches = 0
        self._known = set(self.listed)
        self._waited = 0
        self._worked = 0
        self._since: int | None = None

    def ask(self) -> int:
        """The consumer asks for a batch; the time at which it does."""
        now = perf_counter_ns()
        if self._since is not None:
            self._worked += now - self._since
        return now

    def answer(self, asked: int) -> None:
        """The consumer goes on, with a batch or without one."""
        self._since = perf_counter_ns()
        self._waited += self._since - asked

    def count(self, size: int) -> None:
        """A batch of so many samples is handed out."""
        self.batches += 1
        if self.samples is not None:
            self.samples += size

    def unpack(self, parcel: Parcel, size: int, worker: int | None) -> None:
        """A batch has come of which samples may be missing.

        Raises:
            BadSamplesError: more are than ``max_bad_samples`` allows.
        """
        losses, most = parcel.losses, self.policy.max_bad_samples
        self.skipped_samples += len(losses)
        for loss in losses:
            if loss.index is not None and loss.index not in self._known:
                self._known.add(loss.index)
                self.policy.add(loss, worker)
        if losses and most is not None and self.skipped_samples > most:
            raise BadSamplesError(
                f"{_described(losses[-1])}. With it there are {self.skipped_samples} bad samples, more than "
                f"max_bad_samples={most}. Repair the dataset, or raise max_bad_samples"
            )
        if parcel.is_empty:
            self.skipped_batches += 1
        else:
            self.count(size - len(losses))

    def stats(self) -> dict[str, Any]:
        """The counters, times in nanoseconds, and a plain verdict."""
        counters: dict[str, Any] = {
            "batches": self.batches,
            "skipped_samples": self.skipped_samples,
            "skipped_batches": self.skipped_batches,
            "consumer_wait_ns": self._waited,
            "consumer_work_ns": self._worked,
        }
        if self.samples is not None:
            counters["samples"] = self.samples
        counters["verdict"] = "loader-bound" if self._waited > self._worked else "consumer-bound"
        return counters


def _described(loss: Loss) -> str:
    where = "a sample of an iterable dataset" if loss.index is None else f"sample {loss.index!r}"
    return f"{where}: " + (f"{loss.kind}: {loss.message}" if loss.kind else "listed in the quarantine")
