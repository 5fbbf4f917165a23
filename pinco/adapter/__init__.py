"""The Pinco adapter: torch and diffusers tensors in, tensors out."""

from pinco.adapter.adapter import PincoAdapter
from pinco.adapter.attachment import AdapterNotAttachedError, AlreadyAttachedError, ParallelBackboneError
from pinco.adapter.config import BackboneDims, BackboneMismatchError, PincoConfig
from pinco.adapter.subject import Subject

__all__ = [
    "AdapterNotAttachedError",
    "AlreadyAttachedError",
    "BackboneDims",
    "BackboneMismatchError",
    "ParallelBackboneError",
    "PincoAdapter",
    "PincoConfig",
    "Subject",
]
