"""`scripts/fuzz [TARGET ...] [--seconds N]`: coverage-guided fuzzing by atheris; exits 77 with a reason without it.

What a target must never do is written to fuzz-TARGET-crash-* in the folder that `--findings` names.
"""

import argparse
import importlib.util
import logging
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

SKIPPED = 77
INSTRUMENTED = ("user_rl", "cloud.ingest", "cloud.fleet", "cloud.authority", "cloud.enrolments", "cloud.episodes")


def main() -> int:
    """Each target in a process of its own: libFuzzer ends the one that it runs in."""
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description=__doc__)
    parser.add_argument("target", nargs="*", help="codec, rows, gateway, labels, proto (default: all)")
    parser.add_argument("--seconds", type=int, default=60, help="for each target (%(default)s)")
    parser.add_argument("--findings", type=Path, default=Path("."), help="where what it found is written")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if importlib.util.find_spec("atheris") is None:
        sys.stderr.write("atheris is not installed: pip install atheris, then again; Hypothesis runs without it\n")
        return SKIPPED
    if args.one:
        fuzz(args.target[0], args.seconds, args.findings)
    names = args.target or ["codec", "rows", "gateway", "labels", "proto"]
    return max(_child(name, args) for name in names)


def fuzz(name: str, seconds: int, findings: Path) -> None:
    """Runs one target in this process, which libFuzzer ends."""
    import atheris

    with atheris.instrument_imports(include=list(INSTRUMENTED)):
        from tests.fuzz.targets import TARGETS
    logging.disable()  # a refusal is a line, and here all are refused
    target = TARGETS[name]()
    corpus = tempfile.mkdtemp(prefix=f"user-rl-fuzz-{name}-")
    options = [f"-max_total_time={seconds}", f"-artifact_prefix={findings}/fuzz-{name}-", "-rss_limit_mb=2048"]
    atheris.Setup([sys.argv[0], corpus, *options, "-timeout=20", "-max_len=8192", "-print_final_stats=1"], target)
    atheris.Fuzz()


def _child(name: str, args: argparse.Namespace) -> int:
    argv = [sys.executable, "-m", "tests.fuzz", name, "--one", "--seconds", str(args.seconds)]
    argv += ["--findings", str(args.findings)]
    status = subprocess.run(argv, check=False, preexec_fn=lambda: os.nice(19)).returncode
    peak_mb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    found = "found something" if status else "found nothing"
    sys.stderr.write(f"{name}: {found} in {args.seconds} s, {peak_mb:.0f} MB at most\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
