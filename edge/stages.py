"""Runs the stages in threads, restarts what fails within a budget, and gives up loudly."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from edge.budget import Budget
from edge.bus.publisher import Publisher
from edge.cameras.base import Camera, SourceBroken
from edge.engines.base import Engine
from edge.errors import LinegateError
from edge.logs import log_event
from edge.pipeline import Pipeline, shut
from edge.station import SupervisorSettings
from edge.types import Reason

WATCH_S = 0.05
JOIN_S = 10.0
FAULTS_IN_A_ROW = 5
RETRY_NS = 500_000_000
LONGEST_RETRY_NS = 5_000_000_000
LONGEST_OPENING_NS = 30_000_000_000
_LOG = logging.getLogger("linegate.supervisor")
Wanted = Callable[[], bool]


@dataclass(eq=False)
class Post:
    """One stage, the part that it depends on, and the thread that does it now.

    `reopen` makes the part anew and hands it over if it is still wanted then; `lose` leaves the present one behind, and may
    be called again. `retry_ns`: not before this time.
    """

    name: str
    part: str
    reason: Reason
    budget: Budget
    stage: Callable[[], None]
    reopen: Callable[[Wanted], None]
    lose: Callable[[str], None]
    thread: threading.Thread | None = None
    error: Exception | None = None
    opening: bool = False
    retry_ns: int = 0

    @property
    def alive(self) -> bool:
        """Whether its thread has not ended."""
        return self.thread is not None and self.thread.is_alive()


@dataclass(eq=False)
class Server:
    """What runs beside the stages."""

    thread: threading.Thread
    stop: Callable[[], None]
    error: Exception | None = None


class Stages:
    """The three stages of a pipeline, and the servers beside it."""

    def __init__(
        self,
        pipeline: Pipeline,
        settings: SupervisorSettings,
        *,
        open_engine: Callable[[], Engine],
        open_camera: Callable[[], Camera],
        open_publisher: Callable[[], Publisher],
    ) -> None:
        self._pipeline = pipeline
        self._open_engine, self._open_camera, self._open_publisher = open_engine, open_camera, open_publisher
        self._hang_ns = round(settings.hang_s * 1e9)
        self._grab, self._judge, self._publish = self._posts(settings)
        self._servers: list[Server] = []
        self._changed = threading.Event()
        self._fault = ""
        self._stop_asked = False
        self._watched_ns = 0

    def _posts(self, settings: SupervisorSettings) -> tuple[Post, Post, Post]:
        pipeline = self._pipeline

        def budget() -> Budget:
            return Budget(settings.restarts, round(settings.within_s * 1e9))

        return (
            Post(
                "grab",
                "camera",
                Reason.CAMERA_LOST,
                budget(),
                pipeline.grab_stage,
                self._reopen_camera,
                pipeline.lose_camera,
            ),
            Post(
                "judge",
                "engine",
                Reason.ENGINE_FAULT,
                budget(),
                pipeline.judge_stage,
                self._reopen_engine,
                pipeline.lose_engine,
            ),
            Post(
                "publish",
                "publisher",
                Reason.ENGINE_FAULT,
                budget(),
                pipeline.publish_stage,
                self._reopen_publisher,
                lambda _why: None,
            ),
        )

    @property
    def _all(self) -> tuple[Post, Post, Post]:
        return self._grab, self._judge, self._publish

    def restarts_left(self) -> dict[str, int]:
        """How often each part may still be restarted now."""
        now = time.monotonic_ns()
        return {post.part: post.budget.left(now) for post in self._all}

    def ask_to_stop(self) -> None:
        """Let `run` stop the pipeline soon. Nothing more than a flag: for signal handlers."""
        self._stop_asked = True

    @property
    def stop_asked(self) -> bool:
        """Whether somebody did."""
        return self._stop_asked or self._pipeline.stopping

    def serve(self, serve: Callable[[], None], stop: Callable[[], None]) -> None:
        """Run a server beside the stages until `stop_serving`."""

        def work() -> None:
            try:
                serve()
            except Exception as error:  # noqa: BLE001 - the supervisor's duty
                server.error = error
                self._changed.set()

        server = Server(threading.Thread(target=work, name="serve", daemon=True), stop)
        self._servers.append(server)
        server.thread.start()

    def stop_serving(self, join_s: float) -> bool:
        """Stop the servers; False if one does not end."""
        for server in self._servers:
            server.stop()
        for server in self._servers:
            server.thread.join(join_s)
        return not any(server.thread.is_alive() for server in self._servers)

    def run(self) -> str:
        """Run until every trigger has its verdict and no more come; returns what failed for good, empty if nothing did."""
        for post in self._all:
            self._start(post, self._run_stage)
        self._watched_ns = time.monotonic_ns()
        try:
            while not self._ended():
                self._watch()
        except Exception as error:  # noqa: BLE001 - whoever watches must not fail silently either
            self._give_up(f"the supervisor failed: {_words(error)}", Reason.ENGINE_FAULT)
            self._pipeline.give_up_camera()
        if self._publish.thread is not None:
            self._publish.thread.join(JOIN_S)
        for post in (self._grab, self._judge):
            # A camera that is still being opened is closed by its thread: nobody waits for what may hang.
            opens = post is self._grab and post.opening
            if post.thread is not None and not opens and not self._hangs(post):
                post.thread.join(JOIN_S)
        if not self._pipeline.ended and not self._publish.alive:
            self._pipeline.bury(self._fault)
        return self._fault

    def _watch(self) -> None:
        """One round."""
        self._changed.wait(WATCH_S)
        self._changed.clear()
        # One look at the clock a round: if this thread is held up after it, the next round finds out.
        now = time.monotonic_ns()
        if now - self._watched_ns > self._hang_ns // 2:
            # This thread was held up too (SIGSTOP, a machine asleep): that proves nothing about the others.
            for post in self._all:
                self._pipeline.signals.excuse(post.name)
        self._watched_ns = now
        if self._stop_asked and not self._pipeline.stopping:
            self._pipeline.stop()
        for post in self._all:
            self._check(post)
        for server in self._servers:
            if server.error is not None and not self._fault:
                self._give_up(f"a server failed: {_words(server.error)}", Reason.ENGINE_FAULT)

    def _ended(self) -> bool:
        """Whether the publishing stage has ended: because all was done, or for good."""
        return not self._publish.alive and (self._publish.error is None or bool(self._fault))

    # A part that fails: leave it behind, and have another one as long as the budget lasts.

    def _check(self, post: Post) -> None:
        trouble = self._trouble(post)
        if not trouble:
            return
        if post is self._grab and self._pipeline.stopping:
            self._pipeline.give_up_camera()
            return
        post.lose(trouble)
        if time.monotonic_ns() < post.retry_ns:
            return
        granted = not isinstance(post.error, SourceBroken) and post.budget.spend(time.monotonic_ns())
        log_event(_LOG, "restart" if granted else "lost", level="error", part=post.part, why=trouble)
        if not granted:
            self._give_up(trouble, post.reason)
            if post is self._grab:
                self._pipeline.give_up_camera()
            return
        # What can't be opened may be there in a while: each wait is twice as long as the one before.
        spent = post.budget.most - post.budget.left(time.monotonic_ns())
        post.retry_ns = time.monotonic_ns() + min(RETRY_NS << min(spent - 1, 8), LONGEST_RETRY_NS)
        self._start(post, self._run_again)

    def _trouble(self, post: Post) -> str:
        """What is wrong with a post's part; empty if nothing is, or nothing needs it any more."""
        pipeline = self._pipeline
        if (post is self._grab and pipeline.grab_ended) or (post is self._judge and self._fault):
            return ""
        if post.error is not None:
            return f"the {post.part} failed: {_words(post.error)}"
        if not post.alive or post is self._publish:
            return ""
        if post.opening and post is self._grab and pipeline.stopping:
            return "the camera is still being opened"
        if self._hangs(post):
            return f"the {post.part} hangs"
        keeps_failing = post is self._judge and pipeline.engine_faults >= FAULTS_IN_A_ROW
        return "the engine keeps failing" if keeps_failing else ""

    def _hangs(self, post: Post) -> bool:
        allowed_ns = LONGEST_OPENING_NS if post.opening else self._hang_ns
        return self._pipeline.signals.stalled_ns(post.name, self._watched_ns) > allowed_ns

    def _give_up(self, why: str, reason: Reason) -> None:
        self._fault = self._fault or why
        self._pipeline.fail(self._fault, reason)

    # Threads.

    def _start(self, post: Post, work: Callable[[Post], None]) -> None:
        post.error, post.opening = None, False
        self._pipeline.signals.excuse(post.name)
        post.thread = threading.Thread(target=self._guard, args=(post, work), name=post.name, daemon=True)
        post.thread.start()

    def _guard(self, post: Post, work: Callable[[Post], None]) -> None:
        """Catches everything: a broken stage becomes verdicts and state Error, not silence."""
        me = threading.current_thread()
        try:
            work(post)
        except Exception as error:  # noqa: BLE001 - the supervisor's duty
            # A thread that was left behind tells nobody.
            if post.thread is me:
                post.error = error
        finally:
            self._changed.set()

    @staticmethod
    def _run_stage(post: Post) -> None:
        post.stage()

    def _run_again(self, post: Post) -> None:
        """In the stage's own thread, because what is opened may hang."""
        me = threading.current_thread()
        post.opening = True
        try:
            post.reopen(lambda: post.thread is me)
        finally:
            if post.thread is me:
                post.opening = False
        if post.thread is me:
            post.stage()

    def _reopen_camera(self, wanted: Wanted) -> None:
        camera = self._open_camera()
        if wanted() and not self._pipeline.stopping:
            self._pipeline.replace_camera(camera)
        else:
            shut(camera)

    def _reopen_engine(self, wanted: Wanted) -> None:
        engine = self._open_engine()
        if wanted():
            self._pipeline.replace_engine(engine)

    def _reopen_publisher(self, wanted: Wanted) -> None:
        publisher = self._open_publisher()
        if wanted():
            self._pipeline.outlet.publisher = publisher
            self._pipeline.signals.forget_told()


def _words(error: Exception) -> str:
    return str(error) if isinstance(error, LinegateError) else f"{type(error).__name__}: {error}"
