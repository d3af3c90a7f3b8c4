"""Robots with an address: a TCP connection to the port that their controller listens on, closed at once.

Nothing is said over it, so nothing moves and no session is taken, but a controller that admits one client at a time may
notice. Addresses come from the configuration or the environment: ROBOT_IP, ROBOT_IP_<NAME>, each HOST or HOST:PORT.
"""

import socket
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec

from hal.resources import Condition, Health, Resource, ResourceKind
from user_rl.errors import HardwareError

PORTS = {  # what listens there
    30004: "UR (RTDE)",
    29999: "UR (dashboard)",
    502: "xArm",
    1337: "Franka (FCI)",
    63352: "Robotiq (on a UR)",
}
_ARMS = ({30004, 29999, 63352}, {502}, {1337})  # the ports of one make each
VARIABLE = "ROBOT_IP"
_REFUSED_IS_ALIVE = "the machine answers and nothing listens on {ports}; is the controller on, and its remote control?"


def addresses_in(environment: Mapping[str, str]) -> dict[str, str]:
    """{name: HOST or HOST:PORT} of ROBOT_IP (named `robot`) and ROBOT_IP_<NAME>."""
    found = {}
    for variable, address in sorted(environment.items()):
        if variable == VARIABLE and address:
            found["robot"] = address
        elif variable.startswith(f"{VARIABLE}_") and address:
            found[variable.removeprefix(f"{VARIABLE}_").lower()] = address
    return found


def probe(argument: Mapping[str, Any]) -> Iterator[Any]:
    """The robot `name` at `address`, as plain data: {name, address, timeout_s}."""
    host, ports = _where(argument["address"])
    ports, timeout_s = ports or list(PORTS), float(argument["timeout_s"])
    with ThreadPoolExecutor(len(ports)) as pool:  # one that is silent must not delay the others
        answers = dict(zip(ports, pool.map(lambda port: _answer(host, port, timeout_s), ports), strict=True))
    yield msgspec.to_builtins(_robot(argument["name"], host, answers))


def _robot(name: str, host: str, answers: Mapping[int, str]) -> Resource:
    listening = [port for port, failure in answers.items() if not failure]
    models = [PORTS.get(port, f"port {port}") for port in listening]
    if not listening:
        health = Health(condition=Condition.BROKEN, reason=_reason(host, answers))
    elif sum(bool(arm & set(listening)) for arm in _ARMS) > 1:
        reason = "answers as arms of several makes at once: a proxy or firewall answers in its place"
        health = Health(condition=Condition.DEGRADED, reason=reason)
    else:
        health = Health(condition=Condition.OK)
    address = f"{host}:{listening[0]}" if len(listening) == 1 else host
    return Resource(id=name, kind=ResourceKind.ROBOT, model=", ".join(models), address=address, health=health)


def _reason(host: str, answers: Mapping[int, str]) -> str:
    failures, ports = set(answers.values()), ", ".join(map(str, answers))
    if failures == {"refused"}:
        return _REFUSED_IS_ALIVE.format(ports=ports)
    return f"{host}, ports {ports}: {', '.join(sorted(failures))}; look at power, cable, address and network mask"


def _answer(host: str, port: int, timeout_s: float) -> str:
    """Empty, or why there is no connection."""
    try:
        with socket.create_connection((host, port), timeout=timeout_s):
            return ""
    except TimeoutError:
        return f"no answer within {timeout_s:g} s"
    except ConnectionRefusedError:
        return "refused"
    except socket.gaierror as error:
        raise HardwareError(f"{host} is no known name: {error.strerror}; give the robot's IP address") from error
    except OSError as error:
        return (error.strerror or str(error)).lower()


def _where(address: str) -> tuple[str, list[int]]:
    host, colon, port = address.rpartition(":")
    if not colon:
        return address, []
    if not port.isdigit():
        raise HardwareError(f"{VARIABLE} = {address}, allowed HOST or HOST:PORT; change it")
    return host, [int(port)]
