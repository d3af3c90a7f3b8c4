"""Device: decoded rows in the memory of a GPU (or of the machine, by the same code), in front of the other tiers.

A slab of bytes [slots, row_bytes] lies on the device; what is in it is gathered there, what is not is read through the
RAM cache into a host buffer, which is pinned where there is CUDA, and uploaded once. Pictures are views of the gathered
records; vectors lie at odd addresses and are copied to aligned ones, on the device. Everything runs on the device's
default stream, so a buffer is not written before what reads it is done.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from cloud.batch import Batch
from cloud.store.assemble import Passed, Wanted, batch_of, other_actions
from cloud.store.cache import Cache
from cloud.store.index import Index
from cloud.store.records import Records
from cloud.store.shapes import Shaped
from cloud.store.slots import NOWHERE, Slots
from user_rl.specs import Array, Box


def pick() -> torch.device:
    """The GPU, or the machine's memory where there is none."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


class DeviceAssembler:
    """See cloud.store.assemble.Making. Batches whose observations and actions lie on `device`; `slots` rows do."""

    def __init__(
        self, cache: Cache, records: Records, index: Index, count: int, *, slots: int, device: torch.device
    ) -> None:  # fmt: skip
        self._cache, self._records, self._schema, self._passed = cache, records, records.schema, Passed(index)
        self._device, self._slots = device, Slots(slots)
        self._slab = torch.zeros((slots, self._schema.row_bytes), dtype=torch.uint8, device=device)
        self._buffers = [self._slab.new_empty((0, self._schema.row_bytes)) for _ in range(count)]
        self._vectors: list[dict[str, Tensor]] = [{} for _ in range(count)]
        self._staging = torch.empty((0, self._schema.row_bytes), dtype=torch.uint8)
        self.hits = self.misses = 0

    def make(self, number: int, wanted: Wanted, later: list[Wanted]) -> Batch:
        turn, shaped, rows = number % len(self._buffers), wanted.shaped, wanted.rows
        if len(self._buffers[turn]) != len(rows):
            self._buffers[turn], self._vectors[turn] = self._slab.new_empty((len(rows), self._slab.shape[1])), {}
        self.evict(self._passed.until(wanted.oldest))
        records = self._buffers[turn]
        self._gather(rows, records, known=wanted.known, soon=[each.rows for each in later])
        here, after = records[: shaped.observed.size], records[shaped.observed.size :]
        return batch_of(
            wanted,
            observation=self._observation(here, turn, "here", shaped.observed.shape),
            action=self._action(here, turn, shaped),
            next_observation=self._observation(after, turn, "after", shaped.after.shape),
        )

    def evict(self, rows: Array) -> None:
        self._cache.evict(rows)
        self._slots.evict(rows)

    def _gather(self, rows: Array, out: Tensor, *, known: int, soon: Sequence[Array]) -> None:
        self._slots.know(known)
        slots = self._slots.of(rows)
        missing = np.flatnonzero(slots == NOWHERE)
        if self._slots.count:
            torch.index_select(self._slab, 0, self._moved(np.maximum(slots, 0)), out=out)
        if len(missing):
            wanted, inverse = np.unique(rows[missing], return_inverse=True)
            fresh = self._upload(wanted, known, soon)
            out.index_copy_(0, self._moved(missing), fresh.index_select(0, self._moved(inverse)))
            chosen, places = self._slots.admit(wanted, soon)
            self._slab.index_copy_(0, self._moved(places), fresh.index_select(0, self._moved(chosen)))
        self.hits, self.misses = self.hits + len(rows) - len(missing), self.misses + len(missing)

    def _upload(self, rows: Array, known: int, soon: Sequence[Array]) -> Tensor:
        """The records of `rows` [n], ascending, on the device."""
        if len(self._staging) < len(rows):
            pinned = self._device.type == "cuda"
            self._staging = torch.empty((2 * len(rows), self._slab.shape[1]), dtype=torch.uint8, pin_memory=pinned)
        staged = self._staging[: len(rows)]
        self._cache.gather(rows, staged.numpy().view(self._schema.dtype).reshape(-1), known=known, soon=soon)
        return staged.to(self._device)  # waits, so that the buffer may be written again

    def _moved(self, numbers: Array) -> Tensor:
        return torch.from_numpy(numbers.astype(np.int64).ravel()).to(self._device)

    def _observation(self, records: Tensor, turn: int, side: str, shape: tuple[int, ...]) -> dict[str, Tensor]:
        found = {
            name: self._vector(records, turn, f"{side}.{name}") if isinstance(spec, Box) else self._field(records, name)
            for name, spec in self._schema.observation.items()
        }
        return {name: x.unflatten(0, shape) for name, x in found.items()} if len(shape) > 1 else found

    def _action(self, here: Tensor, turn: int, shaped: Shaped) -> Tensor:
        if shaped.acted.shape == shaped.observed.shape:
            action = self._vector(here, turn, "here.action")
        else:
            action = torch.from_numpy(other_actions(self._records, shaped)).to(self._device)
        return action.reshape(*shaped.acted.shape, -1)

    def _field(self, records: Tensor, name: str) -> Tensor:
        """The bytes of a field, in its shape, as a view."""
        found: Tensor = self._bytes(records, name).unflatten(1, self._schema.dtype[name].shape)
        return found

    def _bytes(self, records: Tensor, name: str) -> Tensor:
        dtype, offset = self._schema.dtype.fields[name][:2]  # type: ignore[index]  # a record's dtype has fields
        return records[:, offset : offset + dtype.itemsize]

    def _vector(self, records: Tensor, turn: int, key: str) -> Tensor:
        name = key.split(".", 1)[1]
        kept, dtype = self._vectors[turn], self._schema.dtype[name]
        if key not in kept:
            values: Array = np.empty((len(records), *dtype.shape), dtype.base)
            kept[key] = torch.from_numpy(values).to(self._device)
        kept[key].view(torch.uint8).view(len(records), -1).copy_(self._bytes(records, name))
        return kept[key]
