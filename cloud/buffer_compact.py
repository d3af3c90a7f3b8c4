"""`user-rl buffer compact`: fewer and larger chunks in a log that nobody writes."""

import argparse
import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import msgspec
import numpy as np
from rich.console import Console

from cloud.bar import bar
from cloud.buffer import log_of
from cloud.manifest import read_manifest
from cloud.run import RunFolder
from cloud.shards.reader import check_one_log
from cloud.store.horizons import MAGIC
from user_rl.files import FileLock
from user_rl.log.compact import Compacted, compact, sealed_bytes


class _Line(msgspec.Struct):
    """What is asked of a line of the file beside the draws."""

    lost: list[tuple[int, int]] = []  # commits, from and to


def run_compact(args: argparse.Namespace, console: Console) -> int:
    """`user-rl buffer compact`. Raises StorageBusy naming who drives the run or writes its log."""
    path = log_of(Path(args.runs), args.run)
    check_one_log(RunFolder(path.parent), "buffer compact")
    run = RunFolder(path.parent)
    with ExitStack() as on_exit:
        if run.config.is_file():
            on_exit.callback(FileLock(run.lock).release)
        tell = on_exit.enter_context(bar(f"compact {args.run}", sealed_bytes(path)))
        done = compact(path, seqs=named_commits(run), tell=tell)
    if args.json:
        tree = {"path": str(path), "segments": [asdict(line) for line in done]}
        console.out(json.dumps(tree, indent=2), highlight=False)
    else:
        for text in _lines(path, done):
            console.print(text, markup=False, highlight=False, soft_wrap=True)
    return 1 if any(line.problem for line in done) else 0


def named_commits(run: RunFolder) -> set[int]:
    """The commits of its log that a run's manifest names, and those that the draws after it saw and will see again."""
    manifest = read_manifest(run.root)
    state = manifest.state if manifest else None
    seqs = {state.log_seq, *([state.snapshot.seq] if state.snapshot else [])} if state else set[int]()
    if run.horizons.is_file():
        seqs |= _seen(run.horizons, state.draws if state else 0)
    return seqs


def _seen(path: Path, first: int) -> set[int]:
    """The commits that the draws from `first` on saw, and those around what they could not read."""
    data = path.read_bytes()  # cloud/store/horizons.py
    if data.startswith(MAGIC):
        draws = np.frombuffer(data[len(MAGIC) : len(data) // 16 * 16], "<u8").reshape(-1, 2)[:, 0]
    else:  # of a run from before there was more to see than the newest commit
        draws = np.frombuffer(data[: len(data) // 8 * 8], "<u8")
    lines = path.with_name(path.name + ".seen")
    lost = [run for line in lines.read_bytes().splitlines() for run in _lost(line)] if lines.is_file() else []
    return {*np.unique(draws[first:]).tolist(), *(seq for a, b in lost for seq in (a - 1, b))}


def _lost(line: bytes) -> list[tuple[int, int]]:
    try:
        return msgspec.json.decode(line, type=_Line).lost
    except msgspec.MsgspecError:  # torn by a power cut: that draw is made anew
        return []


def _lines(path: Path, done: Sequence[Compacted]) -> list[str]:
    changed = [line for line in done if line.chunks_after < line.chunks_before]
    before, after = (sum(getattr(line, name) for line in changed) for name in ("chunks_before", "chunks_after"))
    freed = sum(line.bytes_before - line.bytes_after for line in changed)
    twice = sum(line.rows_twice for line in changed)
    lines = [f"{line.problem}; it is left as it is" for line in done if line.problem]
    text = f"{path}: {len(changed)} of {len(done)} sealed segments compacted"
    if changed:
        text += f", {before:,} chunks became {after:,}, {freed / 1e6:,.1f} MB freed"
    return [*lines, text + (f", {twice:,} further copies of rows dropped" if twice else "")]
