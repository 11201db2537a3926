"""`linegate control`: tell a running station what to do."""

from __future__ import annotations

import argparse

import msgspec

from edge.bus.control import ControlClient
from edge.bus.messages import Mode
from edge.bus.requests import (
    ActivateCommand,
    Command,
    ModeCommand,
    PrepareCommand,
    Reply,
    StatusCommand,
    StopCommand,
    TriggerCommand,
)
from edge.cli.keyring import add_key_arguments, client_keys
from edge.errors import ControlError, UsageError

PREPARE_S = 60.0
LONGEST_S = 3600
_COMMANDS: msgspec.json.Decoder[Command] = msgspec.json.Decoder(Command)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    parser.add_argument(
        "endpoint", metavar="ENDPOINT", help="the station's control endpoint, e.g. tcp://127.0.0.1:5558"
    )
    parser.add_argument("--timeout", metavar="S", type=float, default=5.0, help="wait so long for an answer")
    add_key_arguments(parser)
    what = parser.add_subparsers(dest="what", required=True, metavar="COMMAND", parser_class=type(parser))

    def command(name: str, summary: str) -> argparse.ArgumentParser:
        return what.add_parser(name, help=summary, description=summary, allow_abbrev=False)

    command("status", "how the station is")
    prepare = command("prepare", "load and verify a recipe beside the running one")
    _name_recipe(prepare)
    activate = command("activate", "judge with the prepared recipe from the next trigger on")
    activate.add_argument("recipe_hash", metavar="HASH", help="as `prepare` said")
    change = command("change", "prepare and activate")
    _name_recipe(change)
    command("observe", "publish verdicts that accept nothing and are marked as tests")
    command("judge", "publish verdicts that move the gate")
    trigger = command("trigger", "take and judge one frame")
    trigger.add_argument("--part", metavar="ID", default="", help="the part's name, in its verdict")
    trigger.add_argument("--encoder", metavar="COUNT", type=int, help="where the belt was")
    trigger.add_argument("--id", metavar="ID", default="", help="sent again, it is the same trigger")
    command("stop", "give every open trigger its verdict and end")


def _name_recipe(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("product", metavar="PRODUCT")
    parser.add_argument("revision", metavar="REVISION", type=int, nargs="?", help="the newest, if left out")


def run(arguments: argparse.Namespace) -> int:
    """Give the command and say what the station answered."""
    if not 0 < arguments.timeout <= LONGEST_S:
        raise UsageError(f"--timeout {arguments.timeout:g} is no time to wait", f"Use seconds, {LONGEST_S} at most.")
    command = _checked(_command(arguments))
    client = ControlClient(arguments.endpoint, client_keys(arguments))
    try:
        slow = isinstance(command, PrepareCommand)
        reply = client.ask(command, max(arguments.timeout, PREPARE_S) if slow else arguments.timeout)
        print(_words(arguments.what, reply))
        if arguments.what == "change":
            reply = client.ask(ActivateCommand(recipe_hash=reply.recipe_hash), arguments.timeout)
            print(_words("activate", reply))
    finally:
        client.close()
    return 0


def _command(arguments: argparse.Namespace) -> Command:
    what = arguments.what
    if what in ("prepare", "change"):
        return PrepareCommand(product=arguments.product, revision=arguments.revision)
    if what == "activate":
        return ActivateCommand(recipe_hash=arguments.recipe_hash)
    if what in ("observe", "judge"):
        return ModeCommand(mode=Mode(what))
    if what == "trigger":
        return TriggerCommand(part_id=arguments.part, encoder_count=arguments.encoder, trigger_id=arguments.id)
    return StopCommand() if what == "stop" else StatusCommand()


def _checked(command: Command) -> Command:
    """The command as the station will read it, so that a wrong value is told of here."""
    try:
        return _COMMANDS.decode(msgspec.json.encode(command))
    except (msgspec.ValidationError, UnicodeEncodeError) as error:
        raise ControlError(f"this command is not valid ({error})", "See `linegate control --help`.") from error


def _words(what: str, reply: Reply) -> str:
    if reply.status is not None:
        return msgspec.json.format(msgspec.json.encode(reply.status), indent=2).decode()
    if what in ("prepare", "change"):
        return f"prepared {reply.product} revision {reply.recipe_revision}: {reply.recipe_hash}"
    if what == "activate":
        recipe = f"{reply.product} revision {reply.recipe_revision} ({reply.recipe_hash[:12]})"
        return f"active: {recipe} from trigger {reply.trigger_seq} of epoch {reply.epoch} on"
    if what == "trigger":
        again = ", which had come before" if reply.duplicate else ""
        return f"trigger {reply.trigger_seq} of epoch {reply.epoch}{again}"
    if what == "stop":
        return "the station is ending"
    return f"{what} from trigger {reply.trigger_seq} of epoch {reply.epoch} on"
