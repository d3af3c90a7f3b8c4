"""netlab: networks on one machine: namespaces, NAT, and links that delay, lose, throttle and swallow packets.

The kernel need not have netem: a link is two TUN devices in two namespaces and a process of ours between them. It needs
root, /dev/net/tun, `ip` and `nft`; `missing()` says what is not there.
"""

from scripts.netlab.lab import Lab, missing
from scripts.netlab.link import Impairment, Link
from scripts.netlab.namespaces import Namespace

__all__ = ["Impairment", "Lab", "Link", "Namespace", "missing"]
