"""user-rl label: what the command line asks for, carried out on the run's columns, and told."""

import argparse
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from cloud.authority import Authority
from cloud.bar import bar
from cloud.label_client import RemoteColumns
from cloud.label_door import ADDRESS
from cloud.labels import (
    BY_HAND,
    WAIT_S,
    FileLabels,
    Labelled,
    Sink,
    as_tree,
    columns_of,
    label_episode,
    label_from_file,
    list_columns,
    own_columns,
    reader_of,
    writer_name,
)
from cloud.run import RunFolder, find_run, read_json
from cloud.videos.episode import named
from user_rl.clock import SystemClock
from user_rl.columns import ColumnReader
from user_rl.errors import ConfigError, StorageBusy


def label_run(args: argparse.Namespace) -> Labelled:
    """Writes the labels that `args` name; raises ConfigError where they name none, or too little."""
    folder = find_run(Path(args.runs), args.run)
    if args.episode:
        return _by_hand(folder, args)
    missing = [flag for flag in ("column", "writer", "version", "path") if getattr(args, flag) is None]
    if missing:
        raise ConfigError(
            f"user-rl label {folder.name}: --{missing[0].replace('path', 'from')} is missing; give --column, --writer, "
            "--version and --from, or --episode with --keep, --discard, --success or --failure, or --list"
        )
    wanted = FileLabels(
        name=args.column, writer=args.writer, version=args.version, path=args.path, unit=args.unit
    )  # fmt: skip
    if not args.path.is_file():
        raise ConfigError(f"--from {args.path}: no such file; name one that is there")
    with bar(f"labels of {folder.name}", args.path.stat().st_size) as tell, _sink(folder, args) as sink:
        return label_from_file(sink, folder.name, wanted, tell=tell)


def label_columns(args: argparse.Namespace) -> Iterator[str]:
    """The lines of `--list`."""
    found = list_columns(find_run(Path(args.runs), args.run))
    if args.json:
        yield json.dumps(found, indent=2)
        return
    for column in found:
        kind = f"{column['dtype']}{column['shape'] or ''} {column['unit']}".strip()
        yield (
            f"{column['column']}  {column['values']:,} values, one per {column['per']}, {kind}, "
            f"commit {column['seq']}, by {column['created_by'] or 'unknown'}"
        )
    if not found:
        yield "no late columns; write one with user-rl label RUN --column NAME --writer NAME --version N --from FILE"


def told(done: Labelled, *, as_json: bool) -> str:
    """What became of the labels, for a person or a program."""
    if as_json:
        return json.dumps(as_tree(done), indent=2)
    counts = ", ".join(f"{count:,} {name}" for name, count in done.counts.items() if count) or "nothing"
    lines = [f"{done.column}: {counts}"]
    lines += [f"  refused {r['stream']} {r['id']}: {r['reason']}" for r in done.refused[:10]]
    if done.refusals > 10:
        lines.append(f"  and {done.refusals - 10:,} more; --json names up to a thousand")
    return "\n".join(lines)


def _by_hand(folder: RunFolder, args: argparse.Namespace) -> Labelled:
    if args.what is None:
        raise ConfigError(f"--episode {args.episode}: what of it? allowed {', '.join(f'--{w}' for w in BY_HAND)}")
    writer, name = args.writer or writer_name(), BY_HAND[args.what][0]
    with reader_of(folder) as reader:
        episode = named(reader, args.episode)
    taken = ColumnReader(columns_of(folder)).versions(name, writer)
    if args.version is not None:
        taken = [f"{name}@{writer}-{args.version}"]
    with _sink(folder, args) as sink:
        return label_episode(sink, episode, args.what, writer=writer, taken=taken)


@contextmanager
def _sink(folder: RunFolder, args: argparse.Namespace) -> Iterator[Sink]:
    """The run's columns, taken by this process; when its gateway has them, the gateway."""
    address = read_json(folder.root / ADDRESS).get("labels")
    with ExitStack() as stack:
        try:
            sink: Sink = stack.enter_context(own_columns(folder, wait_s=WAIT_S if address is None else 0.0))
        except StorageBusy:
            if address is None:
                raise
            authority = Authority(Path(args.home).expanduser() / "authority")
            name = f"label-{os.getpid()}"
            keys = authority.mint(name, kind="admin", fleet_address="")
            stack.callback(authority.revoke, name, kind="admin")
            server = keys.server_curve_public
            sink = stack.enter_context(
                RemoteColumns(address, folder.name, keys.curve, server, clock=SystemClock())
            )  # fmt: skip
        yield sink
