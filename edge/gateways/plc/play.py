"""Scans: read, think, write, wait; until the sequence is done, the user has had enough, or the connection is lost."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

from edge.errors import GatewayError
from edge.gateways.plc.blocks import Commands, status_of
from edge.gateways.plc.sequence import Sequence
from edge.gateways.signals import Value


class Peer(Protocol):
    """A connection to the gateway. Every method raises GatewayError when it fails."""

    @property
    def where(self) -> str:
        """For messages."""
        ...

    async def connect(self) -> None:
        """Connect."""
        ...

    async def read(self) -> Mapping[str, Value]:
        """The status block."""
        ...

    async def write(self, commands: Commands) -> None:
        """The command block."""
        ...

    async def close(self) -> None:
        """Let go."""
        ...


async def play(peer: Peer, sequence: Sequence, poll_s: float, looked: Callable[[], None]) -> None:
    """Play the PLC until the end; `looked` is called after each scan.

    Raises:
        GatewayError: the gateway cannot be reached at all, or is another than this one. A connection that is lost later is
            noted in the findings.
    """
    findings = sequence.findings
    ending = asyncio.Event()
    with _interruptible(ending):
        try:
            await peer.connect()
            while not sequence.is_done and not ending.is_set():
                began_s = time.monotonic()
                await _scan(peer, sequence)
                findings.exchanges_s.append(time.monotonic() - began_s)
                looked()
                await _wait(ending, began_s + poll_s - time.monotonic())
            await _part(peer, sequence)
        except GatewayError as error:
            if not findings.reads:
                raise
            findings.broken, findings.online = error.what, False
        finally:
            await peer.close()


async def _scan(peer: Peer, sequence: Sequence) -> None:
    status = status_of(await peer.read())
    await peer.write(sequence.scan(status, time.monotonic()))


async def _part(peer: Peer, sequence: Sequence) -> None:
    """Leave nothing behind that would keep the gateway from going on."""
    last = sequence.last_words()
    if last is None:
        return
    await peer.write(last)
    sequence.findings.is_wish_withdrawn = last.recipe_wanted != sequence.commands.recipe_wanted


async def _wait(ending: asyncio.Event, seconds: float) -> None:
    """Until the next scan, at least for a moment: others want to run too."""
    if seconds <= 0:
        await asyncio.sleep(0)
        return
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(ending.wait(), seconds)


@contextlib.contextmanager
def _interruptible(ending: asyncio.Event) -> Iterator[None]:
    """Ctrl-C ends the run in good order."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, ending.set)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)
