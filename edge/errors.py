"""Every exception a user can meet. Each says what is wrong and what to do about it."""

from __future__ import annotations


class LinegateError(Exception):
    """Something the user can mend.

    The front door prints `what` and `remedy` on one line and ends with exit code 2.
    """

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(f"{what}. {remedy}")
        self.what = what
        self.remedy = remedy


class UsageError(LinegateError):
    """The command line asks for something that cannot be."""


class StationError(LinegateError):
    """The station file is missing, malformed or contradicts itself."""


class PackageError(LinegateError):
    """A model package is missing, damaged or of another schema."""


class RecipeError(LinegateError):
    """A recipe is missing, damaged, or made for another package."""


class PictureError(LinegateError):
    """A picture file cannot be read as what it claims to be."""


class ShotsError(LinegateError):
    """The calibration shots cannot make a recipe."""


class CameraError(LinegateError):
    """The camera cannot be opened or does not do what the station file asks for."""


class EngineError(LinegateError):
    """The executor cannot be loaded or failed on a frame."""


class BusError(LinegateError):
    """The verdict bus cannot be reached or bound."""


class JournalError(LinegateError):
    """The journal cannot be opened, read or searched."""


class VerdictsLost(LinegateError):  # noqa: N818 - what is the case
    """Verdicts were given that this subscriber can no longer get."""


class SecurityError(LinegateError):
    """A key, an allow-list or a signature is missing, malformed or not to be trusted."""


class ControlError(LinegateError):
    """The station refuses what it was asked to do."""


class GatewayError(LinegateError):
    """A gateway's file is wrong, or it cannot serve what it asks for."""


class OutputError(LinegateError):
    """A result cannot be written where the user wants it."""


class ExportError(LinegateError):
    """An encoder cannot be exported as asked."""
