"""Ray, as the run's driver uses it: the session, actors that are restarted without limit, and what they return."""

import logging
import os
import signal
import socket
import threading
from typing import Any

import ray
from ray.exceptions import RayTaskError

from cloud.config import LaunchConfig
from user_rl.errors import ConfigError, UserRlError

STATUS_S = 1.0
STOP_S = 30.0


def init_ray(config: LaunchConfig, run: str) -> None:
    """Ray's own token in ~/.ray keeps strangers out of a local session; a cluster's is its owner's affair.

    Ray takes SIGTERM for itself, and a driver then ends without a last checkpoint: it is given back.
    """
    terminated = signal.getsignal(signal.SIGTERM)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    local = config.ray.address == "local"
    options: dict[str, Any] = {"_node_ip_address": "127.0.0.1", "include_dashboard": False} if local else {}
    ray.init(
        address=config.ray.address,
        namespace=f"user-rl-{run}",
        log_to_driver=False,
        logging_level=logging.ERROR,
        **options,
    )
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, terminated)


def actor(cls: type, name: str, **where: Any) -> Any:  # noqa: ANN401  # Ray's actor class
    """The actor class under a name in the run's namespace."""
    return ray.remote(cls).options(
        name=name, num_cpus=0, max_restarts=-1, max_task_retries=-1, max_concurrency=4, **where
    )


def result(reference: Any, timeout_s: float | None) -> Any:  # noqa: ANN401  # Ray's references hold anything
    """What an actor's call returned; raises our own errors as they were raised there."""
    try:
        return ray.get(reference, timeout=timeout_s)
    except RayTaskError as error:
        cause = error.cause
        raise cause if isinstance(cause, UserRlError) else error from None


def free_port(host: str, wanted: int) -> int:
    """`wanted`, or any free one for 0; raises ConfigError when it is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, wanted))
        except OSError as error:
            raise ConfigError(
                f"gateway port {host}:{wanted}: {error.strerror}, allowed a free one; free it, or give gateway.port=0"
            ) from error
        port: int = probe.getsockname()[1]
        return port
