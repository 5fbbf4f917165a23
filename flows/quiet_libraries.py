"""Notes that the libraries print while they are imported, which tell a user of the command line nothing to act on.

They are about optional packages: image processors that Pinco does not use, kernels that torchao has for other devices,
and old checkpoint formats. Who wants them sets `DIFFUSERS_VERBOSITY` and `TRANSFORMERS_VERBOSITY`.
"""

from __future__ import annotations

import logging
import os

_VARIABLES = ("DIFFUSERS_VERBOSITY", "TRANSFORMERS_VERBOSITY")
_LOGGERS = ("torchao", "torch.utils._pytree")


def quiet_libraries() -> None:
    """Show errors of these libraries only, here and in the processes that are started from here."""
    for name in _VARIABLES:
        os.environ.setdefault(name, "error")
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
