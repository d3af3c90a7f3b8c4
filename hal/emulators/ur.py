"""A UR controller's network side: `python -m hal.emulators.ur [ADDRESS]` serves an arm that a real SDK takes for one.

It speaks RTDE on 30004, the dashboard on 29999, and takes scripts on 30001, 30002 and 30003, as a PolyScope 5 does.
Clients that fix these ports meet it at a loopback address of its own (the default is 127.0.0.2). One thread serves all.
Not there: the state streams of 30001 to 30003, and any script but the SDK's (see `hal.emulators.ur_controller`).
"""

import argparse
import contextlib
import json
import selectors
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from hal.emulators.rtde import PORT, VERSION, Kind, Recipe, input_recipe, output_recipe, package, packages
from hal.emulators.ur_controller import Controller, Runtime

DASHBOARD_PORT = 29999
SCRIPT_PORTS = (30001, 30002, 30003)
RATE_HZ = 500.0  # an e-Series'
_VERSION = (5, 11, 1, 108318)
_MOST_STEPS = 25  # made up in one go: time that a busy machine has lost beyond that is no time of the arm's
_CHUNK = 65536


class UrEmulator:
    """Serves `controller` at `host` while it is entered. Touch the controller under `lock` only."""

    def __init__(self, host: str = "127.0.0.2", controller: Controller | None = None) -> None:
        self.host, self.controller = host, controller or Controller()
        self.lock = threading.Lock()
        self.is_frozen = False  # as with a pulled cable: the arm lives on, nobody hears or is heard
        self._selector = selectors.DefaultSelector()
        self._thread = threading.Thread(target=self._serve, name=f"ur at {host}", daemon=True)
        self._ends = threading.Event()
        self._clients: list[_Client] = []

    def __enter__(self) -> Self:
        kinds = {PORT: RtdeClient, DASHBOARD_PORT: DashboardClient} | dict.fromkeys(SCRIPT_PORTS, ScriptClient)
        for port, kind in kinds.items():
            listener = socket.create_server((self.host, port))
            listener.setblocking(False)
            self._selector.register(listener, selectors.EVENT_READ, kind)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ends.set()
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            self._selector.unregister(key.fileobj)
            key.fileobj.close()  # type: ignore[union-attr]
        self._selector.close()

    def drop_links(self) -> None:
        """Closes every connection; new ones are taken. Under `lock`."""
        for client in self._clients[:]:
            self._drop(client)

    def _serve(self) -> None:
        period_s, stepped_s = 1.0 / RATE_HZ, time.monotonic()
        while not self._ends.is_set():
            events = self._selector.select(max(0.0, stepped_s + period_s - time.monotonic()))
            with self.lock:
                if not self.is_frozen:
                    for key, _ in events:
                        self._hear(key)
                elif events:
                    time.sleep(period_s)
                stepped_s = self._step(stepped_s, period_s)

    def _step(self, stepped_s: float, period_s: float) -> float:
        """Brings the arm up to now; until when it has."""
        steps = int((time.monotonic() - stepped_s) / period_s)
        for _ in range(min(steps, _MOST_STEPS)):
            self.controller.step(period_s)
            if not self.is_frozen:
                for client in self._clients[:]:
                    client.step(self.controller)
        return stepped_s + steps * period_s

    def _hear(self, key: selectors.SelectorKey) -> None:
        if not isinstance(key.data, _Client):
            connection, _ = key.fileobj.accept()  # type: ignore[union-attr]
            client = key.data(connection)
            self._clients.append(client)
            self._selector.register(connection, selectors.EVENT_READ, client)
        elif key.data in self._clients:
            try:
                data = key.data.connection.recv(_CHUNK)
                heard = bool(data) and key.data.hear(data, self.controller)
            except (OSError, ValueError, struct.error):
                heard = False
            if not heard:
                self._drop(key.data)

    def _drop(self, client: "_Client") -> None:
        self._clients.remove(client)
        self._selector.unregister(client.connection)
        client.connection.close()


class _Client:
    """One connection. `hear` says whether it goes on."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer, self.unsent = bytearray(), bytearray()

    def hear(self, data: bytes, controller: Controller) -> bool:
        raise NotImplementedError

    def step(self, controller: Controller) -> None:
        """One period of the controller has passed."""

    def say(self, data: bytes) -> None:
        """Sends, or keeps for later what the other side does not take yet."""
        self.unsent += data
        self.flush()

    def flush(self) -> None:
        """Sends what was kept; a connection that is gone is noticed when it is heard."""
        with contextlib.suppress(OSError):
            del self.unsent[: self.connection.send(self.unsent)]


class RtdeClient(_Client):
    """A connection to 30004: recipes, then data both ways."""

    def __init__(self, connection: socket.socket) -> None:
        super().__init__(connection)
        self._inputs: dict[int, Recipe] = {}
        self._output: Recipe | None = None
        self._every = self._passed = 1  # periods from one data package to the next
        self._is_started = False

    def hear(self, data: bytes, controller: Controller) -> bool:
        self.buffer += data
        for kind, payload in packages(self.buffer):
            if kind == Kind.DATA:
                recipe = self._inputs.get(payload[0]) if payload else None
                if recipe is None or not recipe.is_known:
                    return False
                controller.take(recipe.unpack(payload[1:]))
            else:
                self._set_up(kind, payload)
        return True

    def step(self, controller: Controller) -> None:
        self._passed += 1
        if self._is_started and self._output is not None and self._passed >= self._every:
            self._passed = 0
            if self.unsent:  # a client that does not read misses packages, as it would at the controller
                self.flush()
            else:
                self.say(self._output.pack(controller.outputs))

    def _set_up(self, kind: int, payload: bytes) -> None:
        if kind == Kind.PROTOCOL_VERSION:
            self.say(package(Kind.PROTOCOL_VERSION, bytes([payload == struct.pack(">H", VERSION)])))
        elif kind == Kind.CONTROLLER_VERSION:
            self.say(package(Kind.CONTROLLER_VERSION, struct.pack(">4I", *_VERSION)))
        elif kind == Kind.SETUP_OUTPUTS:
            (rate_hz,) = struct.unpack_from(">d", payload)
            self._every = max(1, round(RATE_HZ / min(max(rate_hz, 1.0), RATE_HZ)))
            self._output = output_recipe(1, _names(payload[8:]))
            self.say(package(Kind.SETUP_OUTPUTS, self._output.reply))
        elif kind == Kind.SETUP_INPUTS:
            recipe = input_recipe(len(self._inputs) + 1, _names(payload))
            self._inputs[recipe.number] = recipe
            self.say(package(Kind.SETUP_INPUTS, recipe.reply))
        elif kind in (Kind.START, Kind.PAUSE):
            accepted = self._output is not None and self._output.is_known
            self._is_started = accepted and kind == Kind.START
            self.say(package(Kind(kind), bytes([accepted])))


class ScriptClient(_Client):
    """A connection to 30001, 30002 or 30003: URScript comes in, and runs when it is whole."""

    def hear(self, data: bytes, controller: Controller) -> bool:
        self.buffer += data
        if self.buffer.rstrip().endswith(b"\nend"):
            controller.play(self.buffer.decode(errors="replace"))
            self.buffer.clear()
        return len(self.buffer) < 1 << 20


class DashboardClient(_Client):
    """A connection to 29999: a line in, a line out."""

    def __init__(self, connection: socket.socket) -> None:
        super().__init__(connection)
        self.say(b"Connected: Universal Robots Dashboard Server\n")

    def hear(self, data: bytes, controller: Controller) -> bool:
        self.buffer += data
        while b"\n" in self.buffer:
            line, _, rest = self.buffer.partition(b"\n")
            self.buffer[:] = rest
            asked = line.decode(errors="replace").strip()
            if asked == "quit":
                self.say(b"Disconnected\n")
                return False
            does = _DASHBOARD.get(asked.lower())
            answer = f"could not understand: '{asked}'" if does is None else does(controller)
            self.say(f"{answer}\n".encode())
        return len(self.buffer) < _CHUNK


def _names(payload: bytes) -> list[str]:
    return [name for name in payload.decode(errors="replace").split(",") if name]


def _stop(controller: Controller) -> str:
    controller.stop_program("dashboard")
    return "Stopped"


_DASHBOARD: dict[str, Callable[[Controller], str]] = {
    "polyscopeversion": lambda _: "URSoftware {}.{}.{}.{} (Jan 01 2022)".format(*_VERSION),
    "get serial number": lambda _: "20220000001",
    "get robot model": lambda _: "UR5",
    "is in remote control": lambda controller: str(controller.is_remote).lower(),
    "robotmode": lambda controller: f"Robotmode: {controller.robot_mode.name}",
    "safetymode": lambda controller: f"Safetymode: {controller.safety.name}",
    "safetystatus": lambda controller: f"Safetystatus: {controller.safety.name}",
    "running": lambda controller: f"Program running: {str(controller.runtime is Runtime.PLAYING).lower()}",
    "programstate": lambda controller: f"{controller.runtime.name} <unnamed>",
    "stop": _stop,
}


_PENDANT: dict[str, Callable[[UrEmulator], None]] = {
    "protective_stop": lambda emulator: emulator.controller.protective_stop(),
    "safeguard_stop": lambda emulator: emulator.controller.safeguard_stop(),
    "emergency_stop": lambda emulator: emulator.controller.emergency_stop(),
    "clear": lambda emulator: emulator.controller.clear(),
    "stop_program": lambda emulator: emulator.controller.stop_program("at the pendant"),
    "local": lambda emulator: setattr(emulator.controller, "is_remote", False),
    "freeze": lambda emulator: setattr(emulator, "is_frozen", True),
    "thaw": lambda emulator: setattr(emulator, "is_frozen", False),
    "drop_links": lambda emulator: emulator.drop_links(),
    "state": lambda _: None,
}


def pendant(emulator: UrEmulator, word: str) -> str:
    """Does what a person at the arm would do, and says in one line of JSON how the arm is then."""
    if word not in _PENDANT:
        return json.dumps({"error": f"{word}: no such word, allowed {', '.join(_PENDANT)}"})
    with emulator.lock:
        _PENDANT[word](emulator)
        arm = emulator.controller
        return json.dumps({
            "position": arm.position.tolist(), "velocity": arm.velocity.tolist(), "runtime": arm.runtime.name,
            "safety": arm.safety.name, "mode": arm.robot_mode.name, "log": arm.log,
        })  # fmt: skip


def main() -> None:
    """Serves until its standard input ends; each line of it is a word for the pendant."""
    parser = argparse.ArgumentParser(prog="python -m hal.emulators.ur", description="An emulated UR arm.")
    parser.add_argument("address", nargs="?", default="127.0.0.2", help="a loopback address of its own (127.0.0.2)")
    with UrEmulator(parser.parse_args().address) as emulator, contextlib.suppress(KeyboardInterrupt):
        print(f"a UR arm at {emulator.host}; type {', '.join(_PENDANT)}", flush=True)  # noqa: T201
        for line in sys.stdin:
            print(pendant(emulator, line.strip()), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
