"""When requests to S3 are repeated, and that people hear of it.

botocore repeats requests that were throttled (429, 503 SlowDown), failed on the server (5xx) or lost their connection,
ten times within about half a minute, without a word. Two things are added: a line in the log, and an early end for a
server that has never answered, which is a wrong address and not a disturbance.
"""

from __future__ import annotations

import logging
from typing import Any

import botocore.exceptions
from tenacity import RetryCallState

from pinco.errors import first_line

log = logging.getLogger(__name__)

FIRST_CONTACT = 3
"""Attempts to reach a server that has not answered yet; about two seconds where it refuses connections."""

BODY_ATTEMPTS = 5
"""Attempts to read an object whose body ends early."""

BODY_ERRORS = (
    botocore.exceptions.IncompleteReadError,
    botocore.exceptions.ResponseStreamingError,
    botocore.exceptions.ReadTimeoutError,
    botocore.exceptions.FlexibleChecksumError,
)
"""What botocore raises, and does not repeat, for a body that is cut short or damaged on its way."""


class RetryWatch:
    """Sees every attempt of a client, before botocore decides whether to make another.

    Args:
        server: Name of the server, for the log.
    """

    def __init__(self, server: str) -> None:
        self._server = server
        self._answered = False

    def attach(self, client: Any) -> None:
        """Watch this client from now on."""
        client.meta.events.register_first("needs-retry.s3.*", self.attempted)

    def attempted(self, attempts: int, response: Any, caught_exception: Exception | None, **_: Any) -> None:
        """An attempt ended.

        Raises:
            botocore.exceptions.ConnectionError: The server cannot be reached, and never could.
        """
        if caught_exception is None:
            self._answered = True
            status = response[0].status_code if response else None
            if status in (429, 500, 502, 503, 504):
                log.warning("S3 at %s answered %s (attempt %d); trying again", self._server, status, attempts)
            return
        given_up = not self._answered and attempts >= FIRST_CONTACT
        if isinstance(caught_exception, botocore.exceptions.ConnectionError) and given_up:
            raise caught_exception
        log.warning("S3 at %s cannot be reached (attempt %d): %s", self._server, attempts, first_line(caught_exception))


def log_cut_body(state: RetryCallState) -> None:
    """For tenacity: a body was cut short and is read again."""
    error = state.outcome.exception() if state.outcome else None
    log.warning("an object on S3 came incomplete (attempt %d): %s; reading again", state.attempt_number, error)
