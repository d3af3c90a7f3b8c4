"""The experience log: append-only, durable, on LMDB, one writer and any number of readers.

A row that `Log.commit` returned is on the disk. Everything that ever happened to a stream is rows or gaps, in order.
"""

from user_rl.log.chunk import Chunk, ChunkRef, Gap, Stored, digest_of
from user_rl.log.compare import Comparison, compare
from user_rl.log.cursors import Cursors
from user_rl.log.episodes import Episode
from user_rl.log.hold import Hold
from user_rl.log.reader import Reader
from user_rl.log.shelf import LogConfig
from user_rl.log.verify import verify
from user_rl.log.writer import Log

__all__ = [
    "Chunk",
    "ChunkRef",
    "Comparison",
    "Cursors",
    "Episode",
    "Gap",
    "Hold",
    "Log",
    "LogConfig",
    "Reader",
    "Stored",
    "compare",
    "digest_of",
    "verify",
]
