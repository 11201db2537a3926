"""The front door: one command, a subcommand per room, each imported only when it is asked for."""

from __future__ import annotations

import argparse
import errno
import importlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from edge import SOFTWARE_VERSION
from edge.errors import LinegateError

EXIT_USAGE = 2
DISK_FAULTS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})


@dataclass(frozen=True, slots=True)
class Command:
    """One row of the table: a module with `add_arguments(parser)` and `run(arguments) -> exit code`."""

    name: str
    module: str
    extra: str
    summary: str


COMMANDS = (
    Command("export", "export.cli", "export", "turn an encoder's weights into a model package"),
    Command("calibrate", "calibration.cli.calibrate", "", "make a recipe for a product from a few normal shots"),
    Command("commission", "calibration.cli.commission", "", "tighten a recipe's threshold with parts of production"),
    Command("recheck", "calibration.cli.recheck", "", "compare revisions on a golden set; add counter-examples"),
    Command("run", "edge.cli.run", "", "judge what passes a station's camera and publish verdicts"),
    Command("control", "edge.cli.control", "", "tell a running station what to do: changeover, trigger, status, stop"),
    Command("gateway", "edge.cli.gateway", "gateways", "serve verdicts to a PLC: Modbus TCP, OPC UA; MQTT telemetry"),
    Command("watch", "edge.cli.watch", "", "show a station's verdicts live"),
    Command("grab", "edge.cli.grab", "", "keep frames of a station's camera as pictures"),
    Command("judge", "edge.cli.judge", "", "judge pictures offline, as the station would"),
    Command("journal", "edge.cli.journal", "", "search and export what a station has judged"),
    Command("replay", "edge.cli.replay", "", "judge a part again from what the journal kept, and compare"),
    Command("keys", "edge.cli.keys", "", "make keys for the bus and for signatures; sign recipes and packages"),
    Command("doctor", "edge.cli.doctor", "", "say what this machine can run and what is missing for more"),
)


class OneLineParser(argparse.ArgumentParser):
    """Reports a usage error on one line, like every other error."""

    def error(self, message: str) -> NoReturn:
        """Print the message and where to read more; exit code 2."""
        self.exit(EXIT_USAGE, f"linegate: {message}. See `{self.prog} --help`.\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand and return the process' exit code."""
    # Small matrices are factored all the time; several threads for one only get in each other's way. Must precede numpy.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    words = list(sys.argv[1:] if argv is None else argv)
    chosen = next((c for c in COMMANDS if words and c.name == words[0]), None)
    try:
        try:
            return _run(chosen, words)
        finally:
            sys.stdout.flush()
    except LinegateError as error:
        print(f"linegate: {error}", file=sys.stderr)
        return EXIT_USAGE
    except ModuleNotFoundError as error:
        if chosen is None or not chosen.extra or str(error.name).split(".")[0] in ("edge", "export", "calibration"):
            raise
        print(f"linegate: {error.name} is not installed. pip install 'linegate[{chosen.extra}]'.", file=sys.stderr)
        return EXIT_USAGE
    except KeyboardInterrupt:
        print("linegate: interrupted. Nothing was written; run the same command again.", file=sys.stderr)
        return EXIT_USAGE
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except OSError as error:
        if error.errno not in DISK_FAULTS:
            raise
        # What is still in the buffer would be tried again at the end, and fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        print(
            f"linegate: the output cannot be written ({error.strerror}). Free some space, or write elsewhere.",
            file=sys.stderr,
        )
        return EXIT_USAGE


def _run(chosen: Command | None, words: list[str]) -> int:
    parser = _parser(chosen)
    if chosen is None:
        parser.parse_args(words)
        parser.print_help()
        return EXIT_USAGE
    module = importlib.import_module(chosen.module)
    module.add_arguments(parser)
    return int(module.run(parser.parse_args(words[1:])))


def _parser(chosen: Command | None) -> OneLineParser:
    if chosen is not None:
        return OneLineParser(prog=f"linegate {chosen.name}", description=chosen.summary, allow_abbrev=False)
    table = "\n".join(f"  {c.name:10} {c.summary}" for c in COMMANDS)
    parser = OneLineParser(
        prog="linegate",
        description="Judges every part that passes a production-line camera, from a handful of normal shots.",
        epilog=f"commands:\n{table}\n\n`linegate COMMAND --help` tells more.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="linegate COMMAND [options]",
    )
    parser.add_argument("--version", action="version", version=f"linegate {SOFTWARE_VERSION}")
    parser.add_argument(
        "command", nargs="?", choices=[c.name for c in COMMANDS], help=argparse.SUPPRESS, metavar="COMMAND"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
