"""The data plane's messages; `user_rl.codec` says how one travels.

Digests, order, identity and schema are the receiver's to hold against what it knows.

    edge → gateway   Hello, Rows + records              gateway → edge   Welcome, Ack, Permit, Refused
    edge → weights   WeightsQuery, WeightsRange         weights → edge   WeightsOffer, WeightsPart + bytes, Refused
    labeller → labels  Label + values                   labels → labeller  Labelled, Refused
    edge → inference  Probe, Infer + observation        inference → edge   Probed, Actions + chunk, Declined
    inference → weights  GuestsQuery                    weights → inference  Guests
    edge → live      Ping, Live, Picture + JPEG, Timings    live → edge    Pong
Any bulk message may travel as Piece + bytes (user_rl.pieces), which are answered by Arrived.
"""

from typing import Annotated, Final, Literal

import msgspec
import xxhash

from user_rl.codec import FORMAT, Buffer, Codec, Limits

__all__ = ["FORMAT", "Limits"]  # what comes from the codec and is spoken of here

UNLIMITED: Final = 2**63 - 1  # Permit.last_step of a stream that may record for ever

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Text = Annotated[str, msgspec.Meta(max_length=2000)]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Positive = Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]
Cursor = Annotated[int, msgspec.Meta(ge=-1, le=2**63 - 1)]  # a step; -1: none
Digest = Annotated[int, msgspec.Meta(ge=0)]  # 64 bits
Blob = Annotated[bytes, msgspec.Meta(max_length=2**18)]

RefusedCode = Literal[
    "schema", "identity", "order", "digest", "run", "full", "malformed", "hello", "column", "busy", "limit", "moved"
]


class _Message(msgspec.Struct, array_like=True, tag=True, frozen=True, forbid_unknown_fields=True):
    """A header. The class's name is its tag."""


class Hello(_Message, frozen=True, tag="Hello"):
    """The edge's spool of `stream` holds [first_kept, last]; the answer is Welcome or Refused."""

    stream: Name
    schema: Blob  # Schema.encoded
    log_id: Name
    epoch: Count
    first_kept: Count
    last: Cursor
    token: Count


class Welcome(_Message, frozen=True, tag="Welcome"):
    """The cloud durably holds `stream` up to `cursor`; send what follows."""

    stream: Name
    cursor: Cursor


class Rows(_Message, frozen=True, tag="Rows"):
    """`count` records of consecutive steps from `first`, in one payload whose digest is `digest`: packed, or `coded`.

    What travels is what the spool has stored (user_rl/log/coded.py), and what the log will store.
    """

    stream: Name
    first: Count
    count: Positive
    digest: Digest
    coded: bool = False


class Ack(_Message, frozen=True, tag="Ack"):
    """The cloud has committed `stream` up to and with `cursor`."""

    stream: Name
    cursor: Cursor


class Permit(_Message, frozen=True, tag="Permit"):
    """`stream` may record up to and with `last_step`; demonstrations: how many are still wanted from it.

    Rows may wait `gather_ms` for more of their stream, so that they travel together: of many edges that is less work.
    """

    stream: Name
    last_step: Cursor
    demonstrations: Count
    gather_ms: Count = 0


class Refused(_Message, frozen=True, tag="Refused"):
    """Why the last message about `stream` (empty: unknown) was dropped. `hello`: say Hello again; `limit`: slower.

    `moved`: another shard takes this stream now; the fleet says where.
    """

    stream: Text
    code: RefusedCode
    text: Text


class WeightsQuery(_Message, frozen=True, tag="WeightsQuery"):
    """Is there a version of `run` newer than `have`? 0: none is held, so only an anchor is of use."""

    run: Name
    have: Count


class WeightsOffer(_Message, frozen=True, tag="WeightsOffer"):
    """The manifest of the version to use; empty: nothing newer."""

    manifest: Blob


class WeightsRange(_Message, frozen=True, tag="WeightsRange"):
    """Asks for up to `length` bytes of version `number`'s file from `offset`."""

    run: Name
    number: Positive
    offset: Count
    length: Positive


class WeightsPart(_Message, frozen=True, tag="WeightsPart"):
    """The payload is version `number`'s file from `offset`; the file has `total` bytes."""

    number: Positive
    offset: Count
    total: Count


class Label(_Message, frozen=True, tag="Label"):
    """Late values of one stream, in one payload (ids and values, `user_rl.columns.entry`) whose digest is `digest`."""

    run: Name
    column: Blob  # user_rl.columns.Column as JSON; it is made if it is not there
    stream: Name
    digest: Digest


class Labelled(_Message, frozen=True, tag="Labelled"):
    """What became of each value (`user_rl.columns.Verdict`); what was written is durable, as commit `seq` (0: none)."""

    column: Name
    seq: Count
    verdicts: Blob


DeclinedCode = Literal["late", "busy", "schema", "identity", "run", "malformed", "weights"]
Steps = Annotated[int, msgspec.Meta(ge=1, le=1000)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e12)]


class Probe(_Message, frozen=True, tag="Probe"):
    """Are you there, and how quick? `schema` (Schema.encoded) comes with the first one and when it was asked for."""

    run: Name
    cell: Name
    sent_s: Seconds  # of the sender's clock; it comes back
    schema: Blob


class Probed(_Message, frozen=True, tag="Probed"):
    """Here I am. A version of 0: there are no weights yet."""

    sent_s: Seconds
    version: Count
    spent_s: Seconds  # from an observation's arrival to its answer, p95 of the newest
    takes_prefix: bool  # whether its policy completes a chunk whose first actions are given
    knows_schema: bool


class Infer(_Message, frozen=True, tag="Infer"):
    """Asks for the actions that follow from the observation in the payload (user_rl.seen), within `within_s`.

    `step` counts the cell's control steps in this boot. The payload's last bytes are the first `prefix` actions of the
    chunk, which will run before the answer can come: float32 [prefix, A]. Only a policy that takes them is sent any.
    """

    run: Name
    cell: Name
    boot: Name
    step: Count
    sent_s: Seconds
    within_s: Seconds
    horizon: Steps
    explore: bool
    schema: Name  # Schema.digest
    fields: Annotated[tuple[tuple[Name, Name, Count], ...], msgspec.Meta(max_length=64)]  # name, codec, bytes
    prefix: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 0


class Actions(_Message, frozen=True, tag="Actions"):
    """The payload is a chunk, float32 [horizon, A], for `step` and what follows, by weights `version`."""

    step: Count
    version: Positive
    version_hash: Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
    horizon: Steps
    spent_s: Seconds  # from the observation's arrival to this answer


class Declined(_Message, frozen=True, tag="Declined"):
    """Why the observation of `step` is not answered."""

    step: Count
    code: DeclinedCode
    text: Text


class GuestsQuery(_Message, frozen=True, tag="GuestsQuery"):
    """Asks, for an inference server of its own, which cells `run` holds now."""

    run: Name


class Guests(_Message, frozen=True, tag="Guests"):
    """{CURVE public key: cell}: whoever is enrolled now and leased by the run."""

    cells: Annotated[dict[str, str], msgspec.Meta(max_length=4000)]


class Piece(_Message, frozen=True, tag="Piece"):
    """The payload is a part of a packed message of `total` bytes, from `offset`; `number` is new for each attempt."""

    number: Count
    offset: Count
    total: Positive


class Arrived(_Message, frozen=True, tag="Arrived"):
    """The first `size` bytes of message `number` are here; 0: none of it is kept, send it anew under another number."""

    number: Count
    size: Count


class Ping(_Message, frozen=True, tag="Ping"):
    """Answered at once; `sent_s` is on the asker's clock."""

    sent_s: float
    body: Annotated[bytes, msgspec.Meta(max_length=2048)] = b""


class Pong(_Message, frozen=True, tag="Pong"):
    """The answer: when the Ping was taken up and answered, on the answerer's clock."""

    sent_s: float
    came_s: float
    left_s: float
    body: Annotated[bytes, msgspec.Meta(max_length=2048)] = b""


class Live(_Message, frozen=True, tag="Live", kw_only=True):
    """How a cell is now. Nothing is answered, and nothing is sent again."""

    cell: Name
    run: Text
    boot: Text
    episode: Count
    step: Cursor
    state: Text
    version: Count
    stamp_s: float  # of the newest row
    robot: Annotated[bytes, msgspec.Meta(max_length=4096)]  # its state, float32
    steps_per_s: float
    late: Count  # steps that began after their deadline
    round_trip_s: float
    queue_s: float  # what waits in the link's queues on the way up
    pace_bytes_s: float
    sent_bytes_s: float
    waiting_rows: Count  # recorded and not acknowledged
    spool_bytes: Count


class Picture(_Message, frozen=True, tag="Picture"):
    """The payload is a small JPEG of `camera` at `step`."""

    camera: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$")]
    step: Cursor


class Timings(_Message, frozen=True, tag="Timings"):
    """One record of the control loop's telemetry, a JSON object."""

    record: Annotated[bytes, msgspec.Meta(max_length=2**15)]


Message = (
    Hello | Welcome | Rows | Ack | Permit | Refused | WeightsQuery | WeightsOffer | WeightsRange | WeightsPart
    | Label | Labelled | Probe | Probed | Infer | Actions | Declined | GuestsQuery | Guests
    | Piece | Arrived | Ping | Pong | Live | Picture | Timings
)  # fmt: skip
WITH_PAYLOAD: Final = (Rows, WeightsPart, Label, Infer, Actions, Piece, Picture)  # one each; the others have none

_codec: Codec[Message] = Codec(Message, WITH_PAYLOAD)
encode, decode = _codec.encode, _codec.decode
TOO_MUCH: Final = encode(Refused("", "limit", "more than this name's share of messages or bytes; go on more slowly"))


def digest(payload: Buffer) -> int:
    """What `Rows.digest` holds of its payload: xxh3, 64 bits."""
    return xxhash.xxh3_64_intdigest(payload)
