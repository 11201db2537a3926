"""The options of every command that connects to a station with CURVE."""

from __future__ import annotations

import argparse
from pathlib import Path

from edge.bus.keys import ClientKeys, load_client_keys
from edge.errors import UsageError


def add_key_arguments(parser: argparse.ArgumentParser) -> None:
    """`--key` and `--server-key`."""
    parser.add_argument("--key", metavar="FILE", type=Path, help="with CURVE: your secret key (NAME.key_secret)")
    parser.add_argument(
        "--server-key", metavar="FILE", type=Path, help="with CURVE: the station's public key (NAME.key)"
    )


def client_keys(arguments: argparse.Namespace) -> ClientKeys | None:
    """The keys that were named; None if none were.

    Raises:
        UsageError: only one of the two was named.
        SecurityError: a file is missing or malformed, or others can read the secret one.
    """
    if (arguments.key is None) != (arguments.server_key is None):
        raise UsageError("--key and --server-key belong together", "Name both, or neither.")
    return None if arguments.key is None else load_client_keys(arguments.key, arguments.server_key)
