"""`linegate gateway test`: play the PLC's part at a running gateway."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.util
import ipaddress
import json
import logging
import re
import sys
from dataclasses import asdict
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from edge.errors import GatewayError, OutputError, UsageError
from edge.gateways.codes import JudgementCode, ReasonCode
from edge.gateways.plc.blocks import name_of
from edge.gateways.plc.findings import Findings, Taken
from edge.gateways.plc.play import Peer, play
from edge.gateways.plc.screen import Screen
from edge.gateways.plc.sequence import Plan, Sequence

LONGEST_S = 86_400.0
MODBUS_PORT = 502


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    protocols = parser.add_subparsers(dest="protocol", metavar="PROTOCOL", required=True)
    modbus = protocols.add_parser("modbus", help="as a Modbus TCP master", allow_abbrev=False)
    modbus.add_argument("target", metavar="HOST:PORT", help="where the gateway listens; IPv6: [::1]:502")
    modbus.add_argument("--unit", metavar="ID", type=int, default=1, help="unit id, 0 to 255 (default 1)")
    modbus.add_argument("--byte-order", choices=("big", "little"), default="big", help="as modbus.byte_order")
    modbus.add_argument("--word-order", choices=("big", "little"), default="big", help="as modbus.word_order")
    opcua = protocols.add_parser("opcua", help="as an OPC UA client", allow_abbrev=False)
    opcua.add_argument("target", metavar="URL", help="opc.tcp://HOST:PORT/linegate")
    opcua.add_argument("--user", metavar="NAME", default="", help="a name that the gateway knows")
    opcua.add_argument("--password-file", metavar="FILE", type=Path, help="its password, on the first line")
    opcua.add_argument("--certificate", metavar="FILE", type=Path, help="the client's certificate: sign and encrypt")
    opcua.add_argument("--key", metavar="FILE", type=Path, help="the certificate's private key")
    opcua.add_argument("--server-certificate", metavar="FILE", type=Path, help="accept this server alone")
    for each in (modbus, opcua):
        _add_plan(each)


def _add_plan(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--count", metavar="N", type=int, default=0, help="end after N results (default 0: when interrupted)")
    add("--seconds", metavar="S", type=float, default=0.0, help="end after S seconds")
    add("--trigger", metavar="MS", type=float, default=0.0, help="trigger a part every MS milliseconds")
    add("--part", metavar="PREFIX", default="part", help="begins the part ids of the triggers")
    add("--recipe", metavar="N", type=int, help="want this recipe number first; 0: whatever is active")
    add("--poll-ms", metavar="MS", type=float, default=10.0, help="time of one scan (default 10)")
    add("--stall-after", metavar="K", type=int, default=0, help="after K results acknowledge nothing for a while")
    add("--stall-s", metavar="S", type=float, default=5.0, help="so long (default 5)")
    add("--reset", action="store_true", help="clear what is latched, at the start and after an overrun")
    add("--json", metavar="FILE", type=Path, help="write results and findings as JSON lines (- for standard output)")


def run(arguments: argparse.Namespace) -> int:
    """Play; 1 if anything was not as it should be."""
    plan = _plan(arguments)
    for library in ("pymodbus", "pymodbus.logging", "asyncua"):
        # What they log is said in the findings, on one line.
        logging.getLogger(library).setLevel(logging.CRITICAL + 1)
    with contextlib.ExitStack() as stack:
        out = _open(arguments.json, stack)
        findings = asyncio.run(_play(arguments, plan, out))
        if out is not None:
            _write(out, {"findings": findings.summary()})
    problems = findings.problems()
    if problems:
        print(f"linegate: not well: {'; '.join(problems)}", file=sys.stderr)
        return 1
    said = [f"{findings.results} results, {findings.accepted} accepted", findings.none_accepted]
    print(f"linegate: all well: {'; '.join(filter(None, said))}", file=sys.stderr)
    return 0


async def _play(arguments: argparse.Namespace, plan: Plan, out: IO[str] | None) -> Findings:
    def took(taken: Taken) -> None:
        screen.note(taken)
        if out is not None:
            shown = {
                "judgement": name_of(JudgementCode, taken.judgement),
                "reason": name_of(ReasonCode, taken.reason),
            }
            _write(out, {"result": asdict(taken) | shown})

    peer = _peer(arguments)
    sequence = Sequence(plan, took)
    with Screen(peer.where, sequence.findings, quiet=out is sys.stdout) as screen:
        await play(peer, sequence, arguments.poll_ms / 1000, screen.look)
        screen.end()
    return sequence.findings


def _peer(arguments: argparse.Namespace) -> Peer:
    if arguments.protocol == "opcua":
        _demand("OPC UA", "asyncua", "opcua")
        from edge.gateways.plc.opcua import Credentials, OpcUaPeer

        if not _is_opc_ua_address(arguments.target):
            raise UsageError(f"{arguments.target} is no OPC UA address", "Write opc.tcp://HOST:PORT/linegate.")
        if (arguments.certificate is None) != (arguments.key is None):
            raise UsageError("--certificate and --key belong together", "Name both, or neither.")
        if bool(arguments.user) != (arguments.password_file is not None):
            raise UsageError("--user and --password-file belong together", "Name both, or neither.")
        password = "" if arguments.password_file is None else _first_line(arguments.password_file)
        files = (arguments.certificate, arguments.key, arguments.server_certificate)
        return OpcUaPeer(arguments.target, Credentials(arguments.user, password, *files))
    _demand("Modbus", "pymodbus", "modbus")
    from edge.gateways.modbus.layout import Order
    from edge.gateways.plc.modbus import modbus_peer

    host, port = _address(arguments.target)
    if not 0 <= arguments.unit <= 255:
        raise UsageError(f"--unit {arguments.unit} is no unit id", "Use 0 to 255.")
    return modbus_peer(host, port, arguments.unit, Order(arguments.byte_order, arguments.word_order))


def _demand(protocol: str, module: str, extra: str) -> None:
    """In the server's own words."""
    if importlib.util.find_spec(module) is None:
        raise GatewayError(f"{protocol} needs {module}, which is not installed", f"pip install 'linegate[{extra}]'")


def _address(target: str) -> tuple[str, int]:
    """The host and port of HOST, HOST:PORT, [IPV6] or [IPV6]:PORT.

    Raises:
        UsageError: it is none of these.
    """
    found = re.fullmatch(r"(?:\[([^\[\]]+)\]|([^:\[\]\s]+))(?::(\d{1,5}))?", target)
    port = int(found[3] or MODBUS_PORT) if found else -1
    if found is None and target.count(":") > 1 and "[" not in target:
        raise UsageError(f"{target} has no brackets", "Write an IPv6 address as [::1]:502.")
    if found is None or bool(found[1]) != _is_ipv6(found[1] or "") or not 0 < port <= 65_535:
        raise UsageError(f"{target} is no address", "Write HOST:PORT, e.g. 192.168.0.20:502, or [::1]:502.")
    return found[1] or found[2], port


def _is_opc_ua_address(target: str) -> bool:
    try:
        parts = urlsplit(target)
        return parts.scheme == "opc.tcp" and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def _plan(arguments: argparse.Namespace) -> Plan:
    limits = {
        "count": (0, 1_000_000_000),
        "seconds": (0, LONGEST_S),
        "trigger": (0, LONGEST_S * 1000),
        "recipe": (0, 65_535),
        "poll_ms": (1, 10_000),
        "stall_after": (0, 1_000_000_000),
        "stall_s": (0, LONGEST_S),
    }
    for name, (least, most) in limits.items():
        value = getattr(arguments, name)
        if value is not None and not least <= value <= most:
            option = name.replace("_", "-")
            raise UsageError(f"--{option} {value:g} is out of range", f"Use {least:g} to {most:g}.")
    if not re.fullmatch(r"[\x21-\x7e]{1,20}", arguments.part):
        raise UsageError("--part is no part prefix", "Use 1 to 20 plain characters.")
    return Plan(
        count=arguments.count,
        seconds=arguments.seconds,
        trigger_s=arguments.trigger / 1000,
        part=arguments.part,
        recipe=arguments.recipe,
        stall_after=arguments.stall_after,
        stall_s=arguments.stall_s,
        resets=arguments.reset,
    )


def _first_line(path: Path) -> str:
    try:
        return (path.read_text(encoding="utf-8").splitlines() or [""])[0]
    except (OSError, UnicodeDecodeError) as error:
        raise GatewayError(f"{path} cannot be read ({error})", "Name a file with the password.") from error


def _open(path: Path | None, stack: contextlib.ExitStack) -> IO[str] | None:
    if path is None:
        return None
    if str(path) == "-":
        return sys.stdout
    try:
        return stack.enter_context(path.open("w", encoding="utf-8", buffering=1))
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written ({error.strerror})", "Choose a folder that can be written."
        ) from error


def _write(out: IO[str], line: dict[str, object]) -> None:
    try:
        out.write(json.dumps(line) + "\n")
        out.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(
            f"the results cannot be written ({error.strerror})", "Free some space, or write elsewhere."
        ) from error
