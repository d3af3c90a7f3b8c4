"""Tunnels: how this machine reaches an address that it cannot reach by itself.

A tunnel adds nothing to trust: CURVE and TLS go through it from end to end, and the server's TLS name is verified
whatever the address is. `Tunnel` is the seam, `TUNNELS` the table of its kinds, `check_tunnel` the contract.
"""

from user_rl.tunnels.make import TUNNELS, TunnelConfig, make_tunnel
from user_rl.tunnels.tunnel import Traffic, Tunnel, split_address

__all__ = ["TUNNELS", "Traffic", "Tunnel", "TunnelConfig", "make_tunnel", "split_address"]
