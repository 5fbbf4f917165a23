"""The Pinco adapter: torch and diffusers tensors in, tensors out."""

from pinco.adapter.adapter import PincoAdapter
from pinco.adapter.config import BackboneDims, BackboneMismatchError, PincoConfig
from pinco.adapter.subject import Subject

__all__ = ["BackboneDims", "BackboneMismatchError", "PincoAdapter", "PincoConfig", "Subject"]
