"""The closed slots of one feature; sums of slots give every scale."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import numpy as np
import numpy.typing as npt

from driftline.drift.tally import Counts, Sparse

EMPTY = -1
ATTRIBUTED_SLOTS = 12
"""The last slots of a window whose tenants are known."""


class SlotRing:
    """Counts of the last `length` slots, addressed by slot number.

    Stored in the narrowest unsigned integers that hold them, summed in int64. A number that was never added, or
    was `length` or more before another one, counts as empty, so gaps need no filling.
    """

    def __init__(self, length: int, cells: int) -> None:
        self._numbers = np.full(length, EMPTY, np.int64)
        self._slots: npt.NDArray[np.unsignedinteger] = np.zeros((length, cells), np.uint8)

    def add(self, number: int, counts: Counts) -> None:
        """Add `counts` to slot `number`. Adding twice to one slot sums."""
        row = number % len(self._numbers)
        if self._numbers[row] == number:
            counts = counts + self._slots[row]
        needed = np.min_scalar_type(int(counts.max(initial=0)))
        if needed.itemsize > self._slots.dtype.itemsize:
            self._slots = self._slots.astype(needed)
        self._slots[row] = counts
        self._numbers[row] = number

    def total(self, last: int, length: int) -> Counts:
        """The sum of the slots `last - length + 1` to `last`."""
        taken = (self._numbers > last - length) & (self._numbers <= last) & (self._numbers != EMPTY)
        return np.asarray(self._slots[taken].sum(axis=0, dtype=np.int64))

    def numbers(self) -> list[int]:
        """Of the slots that hold counts, ascending."""
        oldest = max(self._numbers.max() - len(self._numbers), EMPTY)
        return sorted(self._numbers[self._numbers > oldest].tolist())

    def clear(self) -> None:
        self._numbers[:] = EMPTY
        self._slots = np.zeros(self._slots.shape, np.uint8)

    def state(self) -> dict[int, Sparse]:
        """By slot number."""
        slots = {}
        for number in self.numbers():
            row = self._slots[number % len(self._numbers)]
            cells = np.flatnonzero(row)
            slots[number] = (cells.tolist(), row[cells].tolist())
        return slots

    def resume(self, slots: Mapping[int, Sparse]) -> None:
        """Add what `state` gave."""
        for number, (cells, counts) in sorted(slots.items()):
            row = np.zeros(self._slots.shape[1], np.int64)
            row[cells] = counts
            self.add(number, row)


class TenantSlot(msgspec.Struct, frozen=True):
    """Counts of one slot: a row for each tenant, a column for each group."""

    tenants: tuple[str, ...]
    counts: npt.NDArray[np.unsignedinteger]


class TenantRing:
    """Counts by tenant and group of the last few slots."""

    def __init__(self) -> None:
        self._slots: dict[int, TenantSlot] = {}

    def add(self, number: int, counts: Mapping[str, Counts]) -> None:
        matrix = np.array(list(counts.values()), np.int64)
        self._slots[number] = TenantSlot(
            tuple(counts), matrix.astype(np.min_scalar_type(int(matrix.max(initial=0))))
        )
        for old in [slot for slot in self._slots if slot <= number - ATTRIBUTED_SLOTS]:
            del self._slots[old]

    def total(self, last: int, length: int) -> dict[str, Counts]:
        """By tenant, of those of the slots `last - length + 1` to `last` that are known."""
        total: dict[str, Counts] = {}
        for number, slot in self._slots.items():
            if last - length < number <= last:
                for tenant, counts in zip(slot.tenants, slot.counts.astype(np.int64), strict=True):
                    total[tenant] = total[tenant] + counts if tenant in total else counts
        return total

    def clear(self) -> None:
        self._slots = {}

    def state(self) -> dict[int, dict[str, list[int]]]:
        """By slot number and tenant."""
        return {
            number: dict(zip(slot.tenants, slot.counts.tolist(), strict=True))
            for number, slot in self._slots.items()
        }

    def resume(self, slots: Mapping[int, Mapping[str, list[int]]]) -> None:
        """Add what `state` gave."""
        for number, tenants in slots.items():
            self.add(number, {tenant: np.array(counts, np.int64) for tenant, counts in tenants.items()})
