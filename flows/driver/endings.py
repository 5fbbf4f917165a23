"""What ends a run early. What was finished until then is committed."""

from __future__ import annotations


class NoWorkersLeft(RuntimeError):
    """No inference actor can be started any more; what was finished is committed, the rest is left for the next run."""


class TooManyFailures(RuntimeError):
    """The share of failed rows passed the limit of the settings; what was finished is committed."""


class Interrupted(Exception):
    """The user or the scheduler asked the run to stop; what was finished is committed."""
