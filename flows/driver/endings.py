"""What ends a run early. What was finished until then is committed."""

from __future__ import annotations

from pinco.errors import PincoError


class NoWorkersLeftError(PincoError):
    """No actor of one kind can be started; what was finished is committed, the rest is left for the next run."""

    code = "no_workers_left"


class TooManyFailuresError(PincoError):
    """The share of rows that the system failed at passed the limit of the settings; what was finished is committed."""

    code = "too_many_failures"


class RunInterruptedError(PincoError):
    """The user or the scheduler asked the run to stop; what was finished is committed."""

    code = "run_interrupted"


class RayDiedError(PincoError):
    """Ray itself is gone, and with it all actors; what was finished is committed, the rest is left for the next run."""

    code = "ray_died"
