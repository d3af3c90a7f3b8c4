"""What `user-rl serve-inference` is told. It imports nothing heavy: the command line shows its help at once."""

import argparse


def add_serve(commands: "argparse._SubParsersAction[argparse.ArgumentParser]", *, home: str) -> argparse.ArgumentParser:
    """The command; whoever adds it says what it runs."""
    serve = commands.add_parser("serve-inference", help="answer a run's robots with actions, near them; needs no Ray")
    serve.add_argument("--bundle", required=True, metavar="FILE", help="from user-rl enroll NAME --kind inference")
    serve.add_argument("--run", required=True, metavar="NAME", help="whose weights act")
    serve.add_argument("--weights", required=True, metavar="tcp://HOST:PORT", help="the run's gateway.weights_port")
    serve.add_argument("--listen", default="tcp://0.0.0.0:5600", metavar="tcp://HOST:PORT", help="default: %(default)s")
    serve.add_argument("--home", default=home, help="versions are kept below it (default: %(default)s)")
    serve.add_argument("--threads", type=int, default=1, help="of torch (default: %(default)s)")
    return serve
