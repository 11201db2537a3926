"""The front door: one command, a subcommand per room, each imported only when it is asked for."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from edge import SOFTWARE_VERSION
from edge.errors import LinegateError

EXIT_USAGE = 2


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
    Command("watch", "edge.cli.watch", "", "show a station's verdicts live"),
    Command("grab", "edge.cli.grab", "", "keep frames of a station's camera as pictures"),
    Command("judge", "edge.cli.judge", "", "judge pictures offline, as the station would"),
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
    parser = _parser(chosen)
    try:
        if chosen is None:
            parser.parse_args(words)
            parser.print_help()
            return EXIT_USAGE
        module = importlib.import_module(chosen.module)
        module.add_arguments(parser)
        return int(module.run(parser.parse_args(words[1:])))
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
