"""`linegate gateway`: serve a station's verdicts to a PLC, play the PLC, and print the register map."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from edge.errors import OutputError
from edge.gateways.settings import GatewaySettings, load_gateway
from edge.logs import configure

PROTOCOLS = {
    "modbus": "Modbus TCP server",
    "opcua": "OPC UA server, modelled on OPC 40100-1 (Machine Vision)",
    "mqtt": "MQTT telemetry: for dashboards and the books, never for a gate",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    kinds = parser.add_subparsers(dest="what", metavar="WHAT", required=True)
    for name, summary in PROTOCOLS.items():
        serving = kinds.add_parser(name, help=summary, description=summary, allow_abbrev=False)
        serving.add_argument("file", metavar="FILE.toml", type=Path, help="the gateway's file")
        serving.add_argument(
            "--log", choices=("text", "json"), default="text", help="how to write the log on standard error"
        )
    played = "play the PLC's part, to commission a line without one"
    from edge.gateways.plc.cli import add_arguments as add_plc_arguments

    add_plc_arguments(kinds.add_parser("test", help=played, description=played, allow_abbrev=False))
    printed = "print the register map that the server and all its documents come from"
    mapping = kinds.add_parser("map", help=printed, description=printed, allow_abbrev=False)
    mapping.add_argument(
        "--as",
        dest="form",
        choices=("markdown", "csv", "structured-text"),
        default="markdown",
        help="for people, for import into PLC tools, or as IEC 61131-3 types",
    )
    mapping.add_argument("--out", metavar="FILE", type=Path, help="write to a file")
    added = "add a user of the OPC UA server, or give one another password"
    user = kinds.add_parser("user", help=added, description=added, allow_abbrev=False)
    user.add_argument("file", metavar="USERS", type=Path, help="the file that opcua.users names")
    user.add_argument("name", metavar="NAME", help="the user")
    user.add_argument(
        "--password-file", metavar="FILE", type=Path, help="read the password there; else it is asked for"
    )


def run(arguments: argparse.Namespace) -> int:
    """Do what was asked."""
    if arguments.what in PROTOCOLS:
        return _serve(arguments.what, load_gateway(arguments.file), arguments.log)
    if arguments.what == "test":
        from edge.gateways.plc.cli import run as play

        return play(arguments)
    if arguments.what == "user":
        from edge.gateways.opcua.user import add_user

        return add_user(arguments.file, arguments.name, arguments.password_file)
    return _print_map(arguments.form, arguments.out)


def _serve(protocol: str, settings: GatewaySettings, log: str) -> int:
    serve: Callable[[GatewaySettings], int]
    if protocol == "modbus":
        from edge.gateways.modbus.server import serve
    elif protocol == "opcua":
        from edge.gateways.opcua.server import serve
    else:
        from edge.gateways.mqtt import serve
    logs = configure("json" if log == "json" else "text", sys.stderr)
    try:
        return serve(settings)
    finally:
        logs.close()


def _print_map(form: str, out: Path | None) -> int:
    from edge.gateways.modbus.document import map_csv, map_markdown
    from edge.gateways.structured_text import types

    text = {"markdown": map_markdown, "csv": map_csv, "structured-text": types}[form]()
    if out is None:
        sys.stdout.write(text)
        return 0
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(
            f"{out} cannot be written ({error.strerror})", "Choose a folder that can be written."
        ) from error
    return 0
