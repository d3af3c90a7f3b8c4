"""Every error of ours, named by what the caller can do about it.

UserRlError
├── ConfigError          change the configuration, then start again
├── SpecError            a value breaks its spec: mend whoever produced it
├── WireError            a message is malformed: drop it, keep the connection
│   ├── SchemaMismatch   the two sides mean different rows: bring them to one version
│   └── Unauthorized     this key or name may not do that: enrol it
├── StorageError         the disk said no
│   ├── StorageFull      free space; nothing was written, nothing acknowledged is lost
│   ├── StorageBusy      another process writes there; the message names it
│   └── StorageCorrupt   the bytes are not what was written: restore or quarantine
├── HardwareError        a device said no
│   ├── RobotUnreachable look at power, cable, address; then open again
│   ├── RobotFault       latched: a person looks at the robot and clears it
│   └── SensorStale      a reading is too old to act on: hold or halt
├── NothingToDraw        no row matches yet: wait for rows, or ask for less
├── Unreachable          no answer from the other side: try again later
├── Limited              too much at once from one name: go on more slowly
└── LeaseLost            stop commanding the robot; ask for a new lease

A message has four parts: which thing, what value, what was allowed, what to do.
"""


class UserRlError(Exception):
    """The root: catch this in a process's outermost function only."""


class ConfigError(UserRlError):
    """The configuration cannot be used."""


class SpecError(UserRlError):
    """A value breaks its spec."""


class WireError(UserRlError):
    """A message is truncated, oversized or malformed."""


class SchemaMismatch(WireError):
    """The two sides do not mean the same rows."""


class Unauthorized(WireError):
    """A key or a name is not allowed to do this."""


class StorageError(UserRlError):
    """A store on disk cannot be used."""


class StorageFull(StorageError):
    """No space is left; the transaction was undone whole."""


class StorageBusy(StorageError):
    """Another process holds the store's lock."""


class StorageCorrupt(StorageError):
    """A store's bytes are not what was written."""


class HardwareError(UserRlError):
    """A device cannot be used."""


class RobotUnreachable(HardwareError):
    """No answer from the robot."""


class RobotFault(HardwareError):
    """The robot stopped and must be looked at; never cleared by code."""


class SensorStale(HardwareError):
    """A reading is older than its limit."""


class NothingToDraw(UserRlError):
    """No row that a sampler may draw is here."""


class Unreachable(UserRlError):
    """The other side does not answer."""


class Limited(UserRlError):
    """A caller asks for more than its share."""


class LeaseLost(UserRlError):
    """The lease on this cell has ended or was never ours."""
