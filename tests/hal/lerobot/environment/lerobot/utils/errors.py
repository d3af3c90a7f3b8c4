"""LeRobot's two errors of connection."""


class DeviceNotConnectedError(ConnectionError):
    """As LeRobot's."""


class DeviceAlreadyConnectedError(ConnectionError):
    """As LeRobot's."""
