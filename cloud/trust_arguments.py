"""The arguments of `user-rl enroll`, `revoke`, `enrolled` and `audit`; nothing heavy is imported here."""

import argparse

Parser = argparse.ArgumentParser
KINDS = ("edge", "labeller", "inference", "admin")  # that a person enrols
JOIN_HOURS, VALID_DAYS = 24.0, 365.0


def add_trust(commands: "argparse._SubParsersAction[Parser]", *, home: str) -> list[Parser]:
    """The four commands, each with its `action`."""
    enroll = commands.add_parser("enroll", help="make the join file with which a robot or a server joins, once")
    enroll.add_argument("name", help="the cell's name, or another's")
    enroll.add_argument(
        "--fleet", required=True, action="append", metavar="HOST:PORT", help="where it finds the fleet; repeat for more"
    )
    enroll.add_argument("--out", metavar="FILE", help="the join file (default: NAME.join.json)")
    enroll.add_argument(
        "--kind", choices=KINDS, default="edge", help="a labeller writes the columns of the writer NAME (default: edge)"
    )
    enroll.add_argument(
        "--hours", type=float, default=JOIN_HOURS, metavar="H", help="how long the join file is good (%(default)g)"
    )
    enroll.add_argument(
        "--valid-days", type=float, default=VALID_DAYS, metavar="D", help="of the enrolment, which renews (%(default)g)"
    )
    revoke = commands.add_parser("revoke", help="a name is not let in any more, at once")
    revoke.add_argument("name")
    revoke.add_argument("--kind", choices=(*KINDS, "run"), help="needed when the name is enrolled as several")
    enrolled = commands.add_parser("enrolled", help="who is enrolled, until when, and when it was last seen")
    enrolled.add_argument("--json", action="store_true", help="for programs")
    audit = commands.add_parser("audit", help="who did what to whom")
    audit.add_argument("--last", type=int, default=20, metavar="N", help="how many lines (default: %(default)s)")
    audit.add_argument("--verify", action="store_true", help="whether any line was changed or removed")
    audit.add_argument("--json", action="store_true", help="for programs")
    parsers = [enroll, revoke, enrolled, audit]
    for action, parser in zip(("enroll", "revoke", "enrolled", "audit"), parsers, strict=True):
        parser.add_argument("--home", default=home, help="keys and the fleet's state (default: %(default)s)")
        parser.set_defaults(action=action)
    return parsers
