"""Namespaces: machines' networks, made and removed by `ip netns`; what joins two of them; NAT."""

import subprocess
from collections.abc import Sequence

ALLOWED = "net.ipv4.tcp_allowed_congestion_control"


class Namespace:
    """One machine's network. `name` is unique on this machine and at most 11 characters: interfaces are named by it."""

    def __init__(self, name: str) -> None:
        self.name = name
        ip("netns", "add", name)
        self.run("ip", "link", "set", "lo", "up")

    @property
    def prefix(self) -> list[str]:
        """What starts a command in it."""
        return ["ip", "netns", "exec", self.name]

    def run(self, *argv: str) -> str:
        """Runs a command in it and returns what that printed; raises CalledProcessError."""
        return _output([*self.prefix, *argv])

    def congestion(self, name: str) -> None:
        """Chooses TCP's congestion control: reno, cubic, bbr. The machine is told to allow it in namespaces."""
        allowed = _output(["sysctl", "-n", ALLOWED]).split()
        if name not in allowed:
            _output(["sysctl", "-qw", f"{ALLOWED}={' '.join([*allowed, name])}"])
        self.run("sysctl", "-qw", f"net.ipv4.tcp_congestion_control={name}")

    def route(self, via: str) -> None:
        """The way to everything else."""
        self.run("ip", "route", "replace", "default", "via", via)

    def masquerade(self, out: str) -> None:
        """Becomes a router with NAT: who is behind it may dial out over the interface `out`; nobody dials in."""
        self.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        rules = "; ".join(
            (
                "add table ip nat",
                "add chain ip nat post { type nat hook postrouting priority 100 ; }",
                f"add rule ip nat post oifname {out} masquerade",
                "add table ip filter",
                "add chain ip filter forward { type filter hook forward priority 0 ; policy accept ; }",
                f"add rule ip filter forward iifname {out} ct state new drop",
            )
        )
        self.run("nft", rules)

    def bytes_of(self, interface: str) -> tuple[int, int]:
        """(received, sent) by an interface since it was made."""
        text = self.run("cat", *(f"/sys/class/net/{interface}/statistics/{way}_bytes" for way in ("rx", "tx")))
        received, sent = map(int, text.split())
        return received, sent

    def close(self) -> None:
        """Removes it with its interfaces; safe to call twice."""
        subprocess.run(["ip", "netns", "del", self.name], stderr=subprocess.DEVNULL, check=False)


def ip(*argv: str) -> str:
    """`ip` in the machine's own namespace."""
    return _output(["ip", *argv])


def join(left: Namespace, left_address: str, right: Namespace, right_address: str) -> tuple[str, str]:
    """A cable between two namespaces, addresses as `10.1.0.1/24`; returns the interfaces' names."""
    names = (f"{left.name}-{right.name[-3:]}"[:15], f"{right.name}-{left.name[-3:]}"[:15])
    ip("link", "add", names[0], "netns", left.name, "type", "veth", "peer", "name", names[1], "netns", right.name)
    for space, name, address in ((left, names[0], left_address), (right, names[1], right_address)):
        space.run("ip", "addr", "add", address, "dev", name)
        space.run("ip", "link", "set", name, "up")
    return names


def _output(argv: Sequence[str]) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, argv, done.stdout, done.stderr)
    return done.stdout
