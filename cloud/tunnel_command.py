"""user-rl tunnel: keeps a jump host listening for this machine until stopped (`user_rl/tunnels/reverse.py`)."""

import argparse
import asyncio
import logging
import random
import signal
from collections.abc import Callable
from contextlib import suppress

from user_rl.errors import ConfigError
from user_rl.tunnels.backoff import BackoffConfig
from user_rl.tunnels.learning import learn_host
from user_rl.tunnels.reverse import Reverse, port_from_text
from user_rl.tunnels.ssh import SshConfig, check_library

SHOW_S = 0.5  # between two looks at how the ports are


def run_tunnel(args: argparse.Namespace, *, ask: Callable[[str], str], say: Callable[[str], None]) -> int:
    """Learns the host's key, or serves until SIGINT or SIGTERM; the exit status."""
    if args.learn_host:
        return 0 if learn_host(args.via, args.known_hosts, ask=ask, say=say) else 1
    if not args.ports:
        raise ConfigError("no port is named, allowed one or more PORT[:HOST:PORT]; give the fleet's and the gateway's")
    config = SshConfig(
        via=args.via, key_file=args.key, passphrase_file=args.passphrase_file, agent=args.agent,
        known_hosts=args.known_hosts,
    )  # fmt: skip
    try:
        config.check()
    except ValueError as error:
        raise ConfigError(f"user-rl tunnel: {error}") from error
    check_library()
    logging.getLogger("user_rl.tunnels").setLevel(logging.CRITICAL)  # the lines below say it
    asyncio.run(_serve(config, args.ports, say))
    return 0


async def _serve(config: SshConfig, texts: list[str], say: Callable[[str], None]) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    ports = [port_from_text(text) for text in texts]
    reverse = Reverse(config, ports, BackoffConfig(), random.Random())
    shown: dict[str, str] = {}
    try:
        while not stop.is_set():
            states = reverse.states()
            for port, state in states.items():
                if shown.get(port) != state:
                    say(f"{port}: {state}")
            shown = states
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), SHOW_S)
    finally:
        await reverse.close()
