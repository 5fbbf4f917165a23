"""Faults of the machine that makes images, told apart from faults of what it was given."""

from __future__ import annotations

from collections.abc import Iterator

from pinco.errors import PincoError
from preprocessing.errors import PhotoError


class PhotoChangedError(PincoError, ValueError):
    """The photo is not the one that was planned with."""

    code = "photo_changed"


class PhotoMissingError(PincoError, LookupError):
    """The photo that was planned with is not there any more."""

    code = "photo_missing"


class PhotoUnreadableError(PincoError):
    """The photo is there and could not be read when the run was planned: access denied, too large, a cut connection."""

    code = "photo_unreadable"


class AcceleratorFaultError(PincoError, RuntimeError):
    """The device or its driver failed; the actor's context cannot be trusted any more. Not a row's fault at first."""

    code = "accelerator_fault"


class DeviceMemoryError(PincoError, RuntimeError):
    """The batch did not fit into memory; a smaller one may."""

    code = "out_of_memory"


def is_out_of_memory(error: BaseException) -> bool:
    """True for every way in which torch and Python say that memory ran out."""
    text = str(error)
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "DefaultCPUAllocator: can't allocate memory" in text
    )


def is_accelerator_fault(error: BaseException) -> bool:
    """True for errors after which a CUDA context cannot be used: sticky errors, lost devices, broken libraries."""
    if type(error).__name__ == "AcceleratorError":
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and any(
        sign in text for sign in ("CUDA error", "CUDNN_STATUS_", "CUBLAS_STATUS_", "NCCL error", "device-side assert")
    )


def is_input_fault(error_type: str | None) -> bool:
    """Whether a row failed because of its photo. Any other failure is one of the system that makes images.

    Args:
        error_type: The row's; the `code` of a `PincoError`.
    """
    return error_type in _INPUT_FAULTS


def _codes(kind: type[PincoError]) -> Iterator[str]:
    yield kind.code
    for further in kind.__subclasses__():
        yield from _codes(further)


_OF_PHOTOS = (PhotoError, PhotoChangedError, PhotoMissingError, PhotoUnreadableError)
_INPUT_FAULTS = frozenset(code for kind in _OF_PHOTOS for code in _codes(kind))
