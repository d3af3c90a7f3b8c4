"""What a served part and whoever drives it say to each other; `user_rl.codec` says how a message travels.

    client → server   Describe, Open, Read, Command + target, Begin, Halt, Close, Beat
    server → client   Description, Opened, Reading + values, Sent + values, Done, Failed, Ping

Every request but Beat is answered under its `call`, which rises within a session. A session is one client's hold on one
part; its number rises over all lives of the server, so an older client's requests are known and refused. Every answer
carries the server's clock, from which the client estimates the offset.
"""

from typing import Annotated, Final, Literal

import msgspec

from user_rl.codec import Codec

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Text = Annotated[str, msgspec.Meta(max_length=4000)]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Blob = Annotated[bytes, msgspec.Meta(max_length=2**18)]

Kind = Literal["robot", "camera", "teleop"]
Code = Literal["unreachable", "fault", "stale", "hardware", "spec", "config", "part", "busy", "session", "late", "wire"]


class _Message(msgspec.Struct, array_like=True, tag=True, frozen=True, forbid_unknown_fields=True):
    """A header. The class's name is its tag."""


class Request(_Message, frozen=True):
    """`session` 0: none yet."""

    part: Name
    session: Count
    call: Count


class Describe(Request, frozen=True, tag="Describe"):
    """What is this part? Needs no session."""


class Open(Request, frozen=True, tag="Open"):
    """Opens the part; `session` is the one that this client held last, which then ends."""


class Read(Request, frozen=True, tag="Read"):
    """The newest reading, frame or poll."""


class Command(Request, frozen=True, tag="Command"):
    """The payload is a target [C]; it is refused after `expires_s` of the server's clock."""

    expires_s: float


class Begin(Request, frozen=True, tag="Begin"):
    """See hal.teleop.Teleop.begin."""

    demonstrate: bool


class Halt(Request, frozen=True, tag="Halt"):
    """See hal.robot.Robot.halt."""


class Close(Request, frozen=True, tag="Close"):
    """Closes the part and ends the session."""


class Beat(Request, frozen=True, tag="Beat"):
    """The client lives, though it asks for nothing; there is no answer."""


class Reply(_Message, frozen=True):
    """`clock_s` is the server's, when it answered."""

    call: Count
    clock_s: float


class Description(Reply, frozen=True, tag="Description"):
    """What the part is."""

    kind: Kind
    spec: Blob  # hal.remote.specs


class Opened(Reply, frozen=True, tag="Opened"):
    """The session holds the part, which is open."""

    session: Count
    spec: Blob


class Reading(Reply, frozen=True, tag="Reading"):
    """The payload is a state [S], the pixels of a frame, or an operator's action (empty: hands off)."""

    stamp_s: float
    is_intervention: bool = False
    success: bool = False
    failure: bool = False
    rerecord_episode: bool = False
    terminate_episode: bool = False
    is_enabled: bool = True


class Sent(Reply, frozen=True, tag="Sent"):
    """The payload is what was really sent [C]."""


class Done(Reply, frozen=True, tag="Done"):
    """It is done, and there is nothing to say about it."""


class Failed(Reply, frozen=True, tag="Failed"):
    """Why it was not done."""

    code: Code
    text: Text


class Ping(Reply, frozen=True, tag="Ping"):
    """Says nothing: the server wants to know whether the connection still stands."""


Requests = Describe | Open | Read | Command | Begin | Halt | Close | Beat
Replies = Description | Opened | Reading | Sent | Done | Failed | Ping
REQUESTS: Final[Codec[Requests]] = Codec(Requests, (Command,))
REPLIES: Final[Codec[Replies]] = Codec(Replies, (Reading, Sent))
