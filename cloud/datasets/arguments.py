"""The arguments of `user-rl buffer export` and `user-rl buffer import`; nothing heavy is imported here."""

import argparse
from pathlib import Path

from cloud.datasets.video import CODECS

FORMATS = ("lerobot", "robomimic", "hil-serl")


def add_export(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    """The arguments of `user-rl buffer export`."""
    parser = commands.add_parser("export", help="episodes of a log as a dataset that others read")
    parser.add_argument("run", help="a run, or the folder of a log")
    parser.add_argument("--format", choices=["lerobot"], required=True, help="lerobot: LeRobotDataset v3.0")
    parser.add_argument("--to", type=Path, required=True, metavar="FOLDER", help="a new folder")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--episodes", nargs="+", default=[], metavar="CELL/BOOT/EPISODE", help="only these")
    which.add_argument("--last", type=int, metavar="N", help="the last N whole episodes")
    parser.add_argument("--successful", action="store_true", help="only those that ended in success")
    parser.add_argument("--demonstrations", action="store_true", help="only demonstrations")
    parser.add_argument("--fps", type=int, metavar="N", help="frames per second (default: as the stamps say)")
    parser.add_argument("--images", choices=["video", "png"], default="video", help="png: bit for bit")
    parser.add_argument("--video-codec", choices=list(CODECS), default=next(iter(CODECS)))
    parser.add_argument("--runs", default="runs", help="folder of the runs (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="for programs")
    return parser


def add_import(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    """The arguments of `user-rl buffer import`."""
    parser = commands.add_parser("import", help="a dataset of another format into a log")
    parser.add_argument("path", type=Path)
    parser.add_argument("--format", choices=FORMATS, required=True)
    parser.add_argument(
        "--to", required=True, metavar="RUN|LOGFOLDER", help="a run that stands still, or a log's folder"
    )
    parser.add_argument("--online", action="store_true", help="as online experience (default: demonstrations)")
    parser.add_argument("--task", metavar="NAME", help="the rows' task (default: as the dataset says)")
    parser.add_argument("--map", type=Path, metavar="FILE", help="JSON: our name, its column or columns")
    parser.add_argument("--mask", metavar="NAME", help="robomimic: only the demonstrations of this mask")
    specs = parser.add_mutually_exclusive_group()
    specs.add_argument("--like", metavar="RUN|LOGFOLDER", help="whose specs the rows take (default: of --to)")
    specs.add_argument("--cell", nargs="+", metavar="KEY=VALUE", help="or those of a cell, as user-rl launch names it")
    parser.add_argument("--trust-pickle", action="store_true", help="hil-serl: you made this file yourself")
    parser.add_argument("--runs", default="runs", help="folder of the runs (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="for programs")
    return parser
