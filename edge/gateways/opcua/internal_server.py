"""What is behind the sockets: who gets a session, and how many there are."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from asyncua import ua
from asyncua.common.utils import ServiceError
from asyncua.crypto.permission_rules import User, UserRole
from asyncua.server.internal_server import InternalServer
from asyncua.server.internal_session import InternalSession

from edge.gateways.opcua.limits import LARGEST_QUEUE, LONGEST_SESSION_MS, SUBSCRIPTIONS_PER_SESSION
from edge.gateways.opcua.session import Address, GatewaySession
from edge.gateways.opcua.user import Users


class Passwords:
    """Checks passwords in a thread, one at a time."""

    def __init__(self, users: Users | None) -> None:
        self.users = users
        self._turn = asyncio.Lock()

    async def check(self, name: str, password: str) -> bool:
        """Whether they belong together."""
        if self.users is None:
            return False
        if self.users.is_known(name, password):
            return True
        async with self._turn:
            return await asyncio.to_thread(self.users.check, name, password)


class Doorkeeper:
    """asyncua's user manager: who gets a session. Nobody is an administrator."""

    def __init__(self, users: Users | None, *, anonymous: bool) -> None:
        self._users, self._anonymous = users, anonymous

    def get_user(
        self,
        _iserver: InternalServer,
        username: str | None = None,
        password: str | None = None,
        certificate: bytes | None = None,
    ) -> User | None:
        """The user, or None; `certificate` is the channel's, None over plaintext."""
        if username is None:
            return User(role=UserRole.User, name="anonymous") if self._anonymous else None
        # Checked before, beside the event loop; this only asks whether it was. Never over plaintext.
        known = self._users is not None and self._users.is_known(str(username), str(password))
        return User(role=UserRole.User, name=str(username)) if known and certificate else None


class GatewayInternalServer(InternalServer):
    """asyncua's server behind the sockets, with our sessions and limits."""

    def __init__(self, users: Users | None, *, anonymous: bool, encrypted: bool, sessions: int) -> None:
        super().__init__(user_manager=Doorkeeper(users, anonymous=anonymous))
        self.demands_encryption = encrypted
        self.passwords = Passwords(users)
        self.ours: Address | None = None
        self.connected: Callable[[], set[Any]] = set
        self._sessions = sessions
        self.allow_remote_admin = False
        self.max_connections = 4 * sessions + 128
        self.max_pending_activation_seconds = 10.0
        self.max_session_timeout_ms = LONGEST_SESSION_MS
        self.max_subscriptions = SUBSCRIPTIONS_PER_SESSION * sessions
        self.max_monitored_item_queue_size = LARGEST_QUEUE
        self.max_unacked_messages_per_subscription = 1_000
        self.supported_tokens = tuple(
            kind
            for kind, is_wanted in (
                (ua.AnonymousIdentityToken, anonymous),
                (ua.UserNameIdentityToken, users is not None),
            )
            if is_wanted
        )

    def create_session(self, name: str, user: User | None = None, external: bool = False) -> InternalSession:
        """See asyncua."""
        user = user or User(role=UserRole.Anonymous)
        if not external:
            return super().create_session(name, user, external)
        return GatewaySession(self, self.aspace, self.subscription_service, name, user=user, external=True)

    async def make_room(self) -> None:
        """Room for one more session, if need be that of one that was never logged in, or whose client has gone.

        Raises:
            ServiceError: there is none.
        """
        sessions = list(self._external_sessions.values())
        if len(sessions) < self._sessions:
            return
        # Oldest first. Whoever has not logged in has no claim to a place: strangers could hold them all.
        strangers = [session for session in sessions if not session.is_activated()]
        connected = self.connected()
        left = [session for session in sessions if session not in connected]
        if strangers:
            await strangers[0].close_session(True)
        elif left:
            await min(left, key=lambda session: session._last_activity).close_session(True)
        else:
            raise ServiceError(ua.StatusCodes.BadTooManySessions)
