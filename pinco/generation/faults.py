"""Faults of the machine that makes images, told apart from faults of an image."""

from __future__ import annotations

from pinco.errors import PincoError


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
