"""The arguments of `user-rl tunnel`; nothing heavy is imported here."""

import argparse

Parser = argparse.ArgumentParser


def add_tunnel(commands: "argparse._SubParsersAction[Parser]") -> Parser:
    """`tunnel --via USER@JUMP --known-hosts FILE --key FILE PORT ...`, and its `--learn-host`."""
    parser = commands.add_parser(
        "tunnel", help="be reached through a jump host, where this machine, too, can only dial out"
    )
    parser.add_argument("--via", required=True, metavar="USER@HOST[:PORT]", help="the jump host")
    parser.add_argument("--known-hosts", required=True, metavar="FILE", help="the jump host's key, which it must show")
    parser.add_argument("--learn-host", action="store_true", help="show the jump host's key, ask, and write it there")
    parser.add_argument("--key", default="", metavar="FILE", help="private key, mode 0600")
    parser.add_argument("--passphrase-file", default="", metavar="FILE", help="of the key, mode 0600")
    parser.add_argument("--agent", action="store_true", help="the keys of the agent at SSH_AUTH_SOCK instead")
    parser.add_argument(
        "ports", nargs="*", metavar="PORT[:HOST:PORT]", help="ports of the jump host: the same one here, or an address"
    )
    return parser
