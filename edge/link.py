"""link: the process between the ring and the cloud. `python -m edge.link`, started by edge.daemon.

One thread owns the spool and both sockets and goes round: ring to spool, spool to gateway, weights to disk, orders to
control. The fleet has a thread of its own (edge.heart). Without a cloud it goes on spooling; control goes on acting
until the lease's autonomy has passed. It may be killed at any instant: the ring, the spool and the weights folder say
where its successor goes on, and the orders in shared memory keep the robot going meanwhile.
"""

import argparse
import dataclasses
import json
import logging
import os
import queue
import sys
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import zmq
from msgspec.structs import replace

from edge.config import EdgeConfig
from edge.connection import Connection
from edge.fetching import fetch
from edge.heart import Answer, Heart
from edge.inference.courier import Errand, make_courier
from edge.last import Survivor
from edge.lease import Lease, Record
from edge.live import LiveLine, Spooled
from edge.live_view import View
from edge.logs import LastTrouble, set_up_logs
from edge.orders import Card, Orders, PartReport, Report, State
from edge.pace import Pace, chunk_bytes
from edge.paths import Paths, Straight, Tunnelled
from edge.process import Exit, StopFlag, become_child, end_process, set_up_logging
from edge.ring import Ring
from edge.shared import Shared
from edge.spooler import Spooler, boot_of, stream_name
from edge.standing import Standing, StatusFile, make_standing
from edge.telemetry import Telemetry
from edge.uplink import Uplink
from edge.watch import Watch
from user_rl import fleet
from user_rl.clock import Clock, SystemClock
from user_rl.config import build
from user_rl.downlink import Downlink
from user_rl.errors import ConfigError, StorageFull, UserRlError
from user_rl.files import free_bytes
from user_rl.log import Cursors, Log, LogConfig
from user_rl.log.codec import codecs_of
from user_rl.renewal import keep_in
from user_rl.trust import Bundle, load_bundle
from user_rl.tunnels import Traffic

log = logging.getLogger(__name__)

POLL_S, BUSY_POLL_S = 0.01, 0.001
ORPHAN_S = 2.0  # a process that is killed has ended after so long, also on a busy machine
SAVE_S = 1.0  # between two writes of the acknowledged cursors
HALTED = (State.NO_LEASE, State.FAULT, State.STOPPED)


class Link:
    """Everything that link does, one `turn` at a time. One thread."""

    def __init__(
        self, shared: Shared, ring: Ring, card: Card, config: EdgeConfig, bundle: Bundle, *, paths: Paths
    ) -> None:
        self._paths = paths
        self._shared, self._ring, self._card, self._config, self._bundle = shared, ring, card, config, bundle
        self._clock: Clock = SystemClock()
        found = shared.orders.read() or Orders(boot=boot_of(shared.boot, 0))
        self._heard_s, self._orders = found.heard_s, replace(found, heard_s=0.0)  # the former is posted with it
        self._lease = Lease(config.root / "lease.json", self._orders.lease_until_s)
        link = config.link
        codecs_of(ring.schema, link.codecs, "link.codecs")  # what cannot be is said here
        segment_bytes = min(link.segment_bytes, config.spool_bytes // 4)
        bound = LogConfig(segment_bytes=segment_bytes, max_bytes=config.spool_bytes, codecs=link.codecs)
        self._spool = Log(config.root / "spool", bound)
        self._cursors = Cursors(config.root / "cursors")
        self._spooler = Spooler(ring, self._spool, config, shared.boot, self._clock)
        self._saved = self._cursors.all()
        self.telemetry = Telemetry(config.root, shared.timings, config.telemetry, self._clock)
        self.uplink = Uplink(self._spool, link, self._saved)
        self.downlink: Downlink | None = None
        keep = keep_in(Path(config.bundle).expanduser())
        self._heart = Heart(bundle, self._fleet_card(), self._clock, link.heartbeat_s, paths=paths, keep=keep)
        self._watch = Watch(lambda: self._heart.bundle, self._heart.card, shared.stop, config.root, self._clock)
        self._survivor = Survivor(shared)
        self._status_file, self._trouble = StatusFile(config.root, self._clock), LastTrouble()
        logging.getLogger().addHandler(self._trouble)
        self._courier = make_courier(shared, ring.schema, config, bundle, card.rate_hz, self._clock)
        now_s = self._clock.now_s()
        self._up, self._down = Pace(link.pace, now_s), Pace(link.pace, now_s)
        self._experience, self._weights = Connection(bundle, self._up), Connection(bundle)
        self._live_line = LiveLine(
            bundle, View(Shared(shared.fd), ring, config.name), self._up, self._down, link.live_hz,
            timings=self.telemetry.newest,
        )  # fmt: skip
        self._posted = 0
        self._posted_heard_s = 0.0
        self._saved_s = 0.0
        self._lost = False
        self._follow()

    def run(self, stopping: Callable[[], int], abandoned: Callable[[], bool]) -> None:
        """Turns until told to stop, then drains; `abandoned`: the daemon is dead, and its successor waits."""
        self._heart.start()
        self._watch.start()
        if self._courier is not None:
            self._courier.start()
        self._live_line.start()
        while not stopping():
            self._wait(self.turn())
        if self._orphaned(abandoned):
            self._survivor.look()
            self._survivor.outlive()
        self._watch.stop(0.0 if abandoned() else 2.0)
        self._drain(0.0 if abandoned() else self._config.drain_s)
        self._heart.stop(0.0 if abandoned() else 2.0)

    def _orphaned(self, abandoned: Callable[[], bool]) -> bool:
        """Whether halt is dead.

        The kernel says so when its first thread ends, and names it as the parent until its last one has: that is waited
        for while the robot is open, which an orderly halt has closed before.
        """
        until_s = self._clock.now_s() + ORPHAN_S
        while not abandoned() and self._shared.stop.robot_open and self._clock.now_s() < until_s:
            self._clock.sleep_until(self._clock.now_s() + BUSY_POLL_S)
        return abandoned()

    def _drain(self, within_s: float) -> None:
        """Everything in the ring to disk, and to the cloud what can be sent in time; control's last word is heard."""
        until_s = self._clock.now_s() + within_s
        while True:
            self.turn(at_once=True)
            late = self._clock.now_s() >= until_s
            if self._spooler.idle and (self.uplink.done or late):
                return
            if late and self._spooler.blocked:
                rows = self._ring.head - self._ring.tail
                log.error("%d rows are lost with this process: %s", rows, self._spooler.blocked)
                return
            self._wait(busy=True)

    def turn(self, *, at_once: bool = False) -> bool:
        """One round; False when there is nothing more to do at once."""
        now_s = self._clock.now_s()
        self._survivor.look()
        self._watch.look()
        self._hear()
        self._paths.turn(now_s)
        self._spooler.gather_s = self.uplink.gather_s
        busy = self._spooler.turn(self.uplink.acknowledged, at_once=at_once)
        self.uplink.chunk_bytes = chunk_bytes(self._up, self._config.link.chunk_bytes)
        self.uplink.serve(self._orders.run, self._lease.record.token, self._live, now_s)
        experience = self._paths.local(Traffic.EXPERIENCE, self._lease.record.experience_address)
        self._experience.connect(experience, lambda: self.uplink.reconnected(now_s))
        busy |= self._experience.pump(self.uplink, now_s)
        if self.downlink is not None:
            weights = self._paths.local(Traffic.WEIGHTS, self._lease.record.weights_address)
            self._weights.connect(weights, self.downlink.reconnected)
            busy |= fetch(self.downlink, self._weights, self._down, self._config.link, now_s)
        self._live_line.address = self._paths.local(Traffic.LIVE, self._lease.record.live_address)
        self._live_line.spooled = Spooled(*self._backlog())
        self._post()
        self._release_when_halted()
        self._save(now_s)
        self.telemetry.turn(self._shared.report.read() or Report(), self._orders)
        if self._status_file.due(now_s):
            self._status_file.write(self.standing())
        return busy

    def close(self) -> None:
        """Closes sockets and files; what the ring holds stays there."""
        self._survivor.close()
        if self._courier is not None:
            self._courier.stop()
        self._save(float("inf"))
        self.telemetry.write(self._shared.report.read() or Report(), self._orders)
        logging.getLogger().removeHandler(self._trouble)
        for part in (self._live_line, self._experience, self._weights, self._cursors, self._spool):
            part.close()

    def standing(self) -> Standing:
        """How the daemon stands, for `user-rl-edge status`."""
        now_s, report = self._clock.now_s(), self._shared.report.read() or Report()
        connections = {
            "fleet": self._heart.state, "experience": self._experience.state(now_s),
            "weights": self._weights.state(now_s), "live": self._live_line.state(now_s),
        }  # fmt: skip
        standing = make_standing(
            self._config.name, report, self._lease, self._spool, self.uplink, connections=connections,
            tunnel=self._paths.states(), trouble=self._trouble, clock=self._clock,
        )  # fmt: skip
        return replace(
            standing, boot=self._orders.boot, rows=self._ring.head, fetched=self._orders.weights_number,
            actor=self._courier.words if self._courier is not None else "", pace=self._up.words,
            blocked=self._spooler.blocked, disk_free_bytes=free_bytes(self._config.root),
        )  # fmt: skip

    def _backlog(self) -> tuple[str, str, int, int]:
        """What the live stream says of the spool: run, boot, rows not acknowledged, bytes."""
        acked = self.uplink.acknowledged.get(self._live, -1)
        report = self._shared.report.read() or Report()
        return self._orders.run, self._orders.boot, max(0, report.step - acked), self._spool.size_bytes()

    @property
    def _live(self) -> str:
        return stream_name(self._config.name, self._orders.boot, self._orders.run)

    def _wait(self, busy: bool) -> None:
        sockets = [wire.socket for wire in (self._experience, self._weights) if wire.socket is not None]
        poller = zmq.Poller()
        for socket in sockets:
            poller.register(socket, zmq.POLLIN)
        wait_s = BUSY_POLL_S if busy else POLL_S
        if sockets:
            poller.poll(round(wait_s * 1e3))
        else:
            self._clock.sleep_until(self._clock.now_s() + wait_s)

    def _hear(self) -> None:
        try:
            while True:
                self._answer(self._heart.answers.get_nowait())
        except queue.Empty:
            pass
        report = self._shared.report.read() or Report()
        record = self._lease.record
        self._heart.status = fleet.Status(
            state=report.state, reason=report.reason or self._spooler.reason or self._told_by_courier(record),
            episode=report.episode,
            version=report.version, rows=self._ring.head, spool_bytes=self._spool.size_bytes(),
            token=record.token, released=record.released, disk_free_bytes=free_bytes(self._config.root),
            parts=tuple(_part(part) for part in report.parts),
        )  # fmt: skip

    def _told_by_courier(self, record: Record) -> str:
        """Who acts, as the courier has chosen; it hears for whom, and who may."""
        if self._courier is None:
            return ""
        places = tuple(self._reached(place) for place in record.inference)
        known = tuple(place for place in places if place.address)
        self._courier.errand = Errand(run=record.run, boot=self._orders.boot, places=known)
        return self._courier.words

    def _reached(self, place: fleet.InferencePlace) -> fleet.InferencePlace:
        """A server of this site is reached directly, others through the tunnel, where there is one."""
        if place.site and place.site == self._config.site:
            return place
        return dataclasses.replace(place, address=self._paths.local(Traffic.INFERENCE, place.address))

    def _answer(self, answer: Answer) -> None:
        if answer.revoked:
            return self._lease.suspend()
        if answer.assignment is None or self._lost:
            self._lost = True
            return self._lease.lose()
        old = self._lease.record.token
        try:
            self._lease.hear(answer.assignment, answer.sent_s)
        except OSError as error:
            return log.error("the lease cannot be stored: %s; it is not used, free space", error)
        self._orders = replace(self._orders, clock_offset_s=answer.clock_offset_s)
        self._heard_s = answer.sent_s
        if self._lease.record.token != old:
            log.info("lease %d of run %s", self._lease.record.token, self._lease.record.run)
            self._follow()
        return None

    def _follow(self) -> None:
        """Takes up the lease's run: its streams, its weights; another run is recorded under another boot."""
        run, old = self._lease.record.run, self._orders
        if not run:
            return
        if old.run and run != old.run:
            generation = old.generation + 1
            boot = boot_of(self._shared.boot, generation)
            self._orders = Orders(run=run, boot=boot, generation=generation, clock_offset_s=old.clock_offset_s)
            self._heart.card = self._watch.card = self._fleet_card()
        else:
            self._orders = replace(old, run=run)
        self._spool.open_stream(self._live, self._ring.schema)
        root = self._config.root / "weights" / run
        schema = self._ring.schema
        self.downlink = Downlink(root, run, self._config.link, schema=schema.digest, action=schema.action)

    def _post(self) -> None:
        permit, counted_at = self.uplink.permits.get(self._live, (None, -1))
        folder = self.downlink.folder if self.downlink is not None else None
        orders = replace(
            self._orders, token=self._lease.record.token, lease_until_s=self._lease.until_s,
            evaluate=self._config.evaluate, finish=self._lease.finish,
        )  # fmt: skip
        if permit is not None:
            orders = replace(
                orders, last_step=permit.last_step, demonstrations=int(permit.demonstrations), acknowledged=counted_at
            )
        if folder is not None and self.downlink is not None and self.downlink.newest is not None:
            orders = replace(orders, weights=str(folder), weights_number=self.downlink.newest.number)
        if orders != self._orders or not self._posted:
            self._orders = orders
            self._posted = self._shared.orders.post(replace(orders, heard_s=self._heard_s))
            self._posted_heard_s = self._heard_s
        elif self._heard_s != self._posted_heard_s:  # nothing that control must have read before it releases a lease
            self._shared.orders.post(replace(orders, heard_s=self._heard_s))
            self._posted_heard_s = self._heard_s

    def _release_when_halted(self) -> None:
        report = self._shared.report.read()
        if self._lease.releasing and report and report.heard >= self._posted and report.state in HALTED:
            self._lease.release()
            log.info("lease %d is released: the robot is halted", self._lease.record.released)
            self._heart.hurry()

    def _save(self, now_s: float) -> None:
        if now_s - self._saved_s >= SAVE_S:
            self._saved_s = now_s
            news = {n: c for n, c in self.uplink.acknowledged.items() if self._saved.get(n) != c}
            try:
                if news:
                    self._cursors.put(news)
                    self._saved.update(news)
            except StorageFull as error:  # the cloud will say it again
                log.warning("cursors: %s", error)

    def _fleet_card(self) -> fleet.Card:
        card, schema = self._card, self._ring.schema
        return fleet.Card(
            cell=self._config.name, boot=self._orders.boot, model=card.model, rate_hz=card.rate_hz,
            schema_digest=schema.digest, action_dim=schema.action.shape[0], cameras=card.cameras,
            on_silence=card.on_silence, site=self._config.site, dof=schema.action.shape[0],
            control_modes=card.control_modes, teleop=card.teleop,
        )  # fmt: skip


def _part(part: PartReport) -> fleet.Part:
    words: tuple[fleet.Health, ...] = get_args(fleet.Health)
    return fleet.Part(name=part.name, health=next((w for w in words if w == part.health), "broken"), reason=part.reason)


def main(argv: list[str] | None = None) -> int:
    """Runs until SIGTERM, then drains; returns an `Exit`."""
    parser = argparse.ArgumentParser(prog="python -m edge.link")
    parser.add_argument("--shared", type=int, required=True, help="file descriptor of the shared memory")
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--parent", type=int, required=True, help="process id of the daemon")
    parser.add_argument("--line", type=int, help="file descriptor of the socket to the tunnel process")
    args = parser.parse_args(argv)
    stopping = StopFlag()
    become_child(args.parent)
    set_up_logging("link")
    sys.setswitchinterval(0.0005)  # a ping waits for no other thread's long turn
    try:
        config = build(EdgeConfig, json.loads(args.config.read_text()))
        shared = Shared(args.shared)
        set_up_logs("link", config.name, config.log, run=shared.run)
        paths = Straight() if args.line is None else Tunnelled(args.line)
        run(shared, config, stopping, lambda: os.getppid() != args.parent, paths)
    except UserRlError as error:
        log.error("%s", error)
        return Exit.CONFIG if isinstance(error, ConfigError) else Exit.CRASH
    return Exit.CLEAN


def run(
    shared: Shared, config: EdgeConfig, stopping: Callable[[], int], abandoned: Callable[[], bool], paths: Paths
) -> None:
    """Waits for control's ring, then links until told to stop."""
    bundle = load_bundle(Path(config.bundle).expanduser())
    if bundle.name != config.name:
        raise ConfigError(f"bundle {config.bundle} is for {bundle.name}, allowed name = {config.name}; give its own")
    clock = SystemClock()
    ring = shared.ring()
    while ring is None and not stopping():
        clock.sleep_until(clock.now_s() + POLL_S)
        ring = shared.ring()
    card = shared.card.read()
    if ring is not None and card is not None:
        link = Link(shared, ring, card, config, bundle, paths=paths)
        try:
            link.run(stopping, abandoned)
        finally:
            link.close()


if __name__ == "__main__":
    end_process(main())
