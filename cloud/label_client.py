"""A gateway's labels socket as a place to write columns: what one process sends is durable when it is answered."""

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np

from cloud.label_door import PAYLOAD_BYTES, ROWS
from user_rl.channels import ClientChannel
from user_rl.clock import Clock
from user_rl.columns import Column
from user_rl.columns.entry import pack
from user_rl.columns.spec import MAX_TEXT_BYTES, check_column
from user_rl.errors import SpecError, StorageBusy, StorageFull, Unauthorized, Unreachable, UserRlError, WireError
from user_rl.specs import Array
from user_rl.trust import CurveKeys
from user_rl.wire import Label, Labelled, Refused, decode, digest, encode

PATIENCE_S = 20.0
AGAIN_S = 0.02
ERRORS: dict[str, Callable[[str], UserRlError]] = {
    "identity": Unauthorized, "full": StorageFull, "busy": StorageBusy, "column": SpecError
}  # fmt: skip


class RemoteColumns:
    """See cloud.labels.Sink. One thread; one message at a time, so nothing piles up at the gateway."""

    waiting_bytes = 0  # every call is durable when it returns

    def __init__(self, address: str, run: str, keys: CurveKeys, server_public: str, *, clock: Clock) -> None:
        self._run, self._clock = run, clock
        self._address = address
        self._channel = ClientChannel(address, keys, server_public)
        self._columns: dict[str, Column] = {}
        self._seqs: dict[str, int] = {}

    def add(self, column: Column) -> Column:
        """Notes what the column is; the gateway makes it with its first values."""
        self._columns[column.identity] = check_column(column)
        return column

    def write(self, identity: str, stream: str, ids: Array, values: Any) -> Array:  # noqa: ANN401
        """[n] Verdict, of what is durable now; raises the error that the gateway names, or Unreachable."""
        column = self._columns[identity]
        ids = np.asarray(ids).astype(np.int64)
        given = column.checked(values, len(ids))
        size = max(1, min(ROWS, PAYLOAD_BYTES // 2 // (8 + (column.item_bytes or MAX_TEXT_BYTES))))
        parts = [slice(start, start + size) for start in range(0, len(ids), size)]
        return np.concatenate(
            [np.zeros(0, np.uint8), *(self._ask(column, stream, ids[part], given[part]) for part in parts)]
        )

    def commit(self) -> dict[str, int]:
        """The commits of the columns since the last call; they are durable already."""
        seqs, self._seqs = self._seqs, {}
        return seqs

    def close(self) -> None:
        """Ends the connection."""
        self._channel.close()

    def __enter__(self) -> "RemoteColumns":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, column: Column, stream: str, ids: Array, values: Array) -> Array:
        payload = pack(column, 0, ids, values)
        self._say(encode(Label(self._run, msgspec.json.encode(column), stream, digest(payload)), payload))
        frames = self._channel.receive(PATIENCE_S)
        if frames is None:
            raise Unreachable(
                f"the gateway at {self._address} has not answered for {PATIENCE_S:g} s; label again later"
            )
        answer, _ = decode(frames)
        if isinstance(answer, Refused):
            raise ERRORS.get(answer.code, WireError)(answer.text)
        if not isinstance(answer, Labelled) or len(answer.verdicts) != len(ids):
            raise WireError(f"{type(answer).__name__} for {len(ids)} labels, allowed Labelled; update both sides")
        if answer.seq:
            self._seqs[column.identity] = answer.seq
        return np.frombuffer(answer.verdicts, np.uint8)

    def _say(self, frames: "list[bytes | memoryview]") -> None:
        deadline_s = self._clock.now_s() + PATIENCE_S
        while not self._channel.send(frames):
            if self._clock.now_s() >= deadline_s:
                raise Unreachable(
                    f"the gateway at {self._address} lets nobody in for {PATIENCE_S:g} s; look whether the run goes on "
                    "and whether this name is enrolled"
                )
            self._clock.sleep_until(self._clock.now_s() + AGAIN_S)
