"""link: the durable uplink over bare CURVE and bare LMDB, round trips beside it, a cut, and how many edges are held.

`uplink_*`: rows of 300 kB, spool filled beforehand, from edge log to cloud log, committed on both sides; bare CURVE and
bare LMDB take turns with it (see `wire`), and the CPU of each thread is printed as a share of the time.
`rtt_*`: see `round_trips`, on loopback, and `round_trips_far`, over a lab's link. `cut_*`, `catch_up_*`: see `cut`.
`ingest_*`: see `link_ingest`; a short trial with each number of edges, then the largest that was held for `--minutes`.
"""

import argparse
import statistics

from scripts.benchmarks import cut, round_trips, round_trips_far
from scripts.benchmarks.link_ingest import Outcome, trial
from scripts.benchmarks.machine import record
from scripts.benchmarks.wire import SIZES, System, bare_curve, bare_lmdb
from scripts.netlab import missing

SIZE = SIZES["300kB"]
EDGES = (64, 128, 192, 256, 320, 384, 448, 512)
SHORT_S = 20.0


def uplink(repeats: int) -> dict[str, float]:
    """MB/s of all three, and the ratios: medians of the turns'."""
    system = System(SIZE)
    turns = []
    for _ in range(repeats):
        turns.append((bare_curve(SIZE), bare_lmdb(SIZE), system.rate()))
        for who, share in system.shares.items():
            print(f"  {who:32s} {share:6.1%} of the time on a core")
    system.close()
    curve, store, rate = (statistics.median(column) for column in zip(*turns, strict=True))
    return {
        "uplink_ratio": statistics.median(u / min(c, s) for c, s, u in turns),
        "uplink_over_curve_ratio": statistics.median(u / c for c, _, u in turns),
        "curve_mb_s": curve, "lmdb_mb_s": store, "uplink_mb_s": rate,
    }  # fmt: skip


def ingest(minutes: float, edges: tuple[int, ...]) -> dict[str, float]:
    """The largest number of edges that is held: found in short trials, then held for `minutes`."""
    short_s = min(SHORT_S, 60 * minutes)
    candidates: list[int] = []
    for count in edges:
        if not _tried(count, short_s).held:
            break
        candidates.append(count)
    for count in reversed(candidates):
        found = _tried(count, 60 * minutes)
        if found.held:
            return {
                "ingest_edges_held": count, "ingest_worst_s": found.worst_s, "ingest_grown_mb": found.grown_mb,
                "ingest_gateway_cores": found.gateway_cpu,
            }  # fmt: skip
    return {"ingest_edges_held": 0}


def rtt(megabytes: int, seconds: float, far_s: float) -> dict[str, float]:
    """Round trips beside a saturated uplink, on loopback and over a lab's link."""
    near = round_trips.measure(megabytes * 1_000_000, seconds)
    near["rtt_uplink_mb_s"] = near.pop("uplink_mb_s")
    if missing():
        print(f"no figure over a link: {missing()}")
        return near
    return near | round_trips_far.measure(far_s)


def cuts(rows: int) -> dict[str, float]:
    """See `cut`."""
    if missing():
        print(f"no figure of a cut: {missing()}")
        return {}
    return cut.measure(rows)


def _tried(count: int, seconds: float) -> Outcome:
    found = trial(count, seconds)
    print(f"  {found}, held: {found.held}", flush=True)
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json")
    parser.add_argument("--only", choices=("uplink", "rtt", "cut", "ingest"))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--megabytes", type=int, default=1500, help="in the spool, for round trips on loopback")
    parser.add_argument("--seconds", type=float, default=8.0, help="of round trips on loopback")
    parser.add_argument("--far-seconds", type=float, default=round_trips_far.SECONDS, help="of those over the link")
    parser.add_argument("--rows", type=int, default=cut.ROWS, help="recorded during the cut")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--edges", type=int, nargs="+", default=EDGES)
    args = parser.parse_args()
    figures: dict[str, float] = {}
    if args.only in (None, "uplink"):
        figures |= uplink(args.repeats)
    if args.only in (None, "rtt"):
        figures |= rtt(args.megabytes, args.seconds, args.far_seconds)
    if args.only in (None, "cut"):
        figures |= cuts(args.rows)
    if args.only in (None, "ingest"):
        figures |= ingest(args.minutes, tuple(args.edges))
    record("link", figures, args.json)
