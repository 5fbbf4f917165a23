"""What can go wrong on an actor, as far as the driver treats it differently."""


class AcceleratorFault(RuntimeError):
    """The device or its driver failed; the actor's context cannot be trusted any more. Not a row's fault at first."""


class OutOfMemory(RuntimeError):
    """The batch did not fit into memory; a smaller one may."""


class NoWorkersLeft(RuntimeError):
    """No inference actor can be started any more; what was finished is committed, the rest is left for the next run."""


class TooManyFailures(RuntimeError):
    """The share of failed rows passed the limit of the settings; what was finished is committed."""


class Interrupted(Exception):
    """The user or the scheduler asked the run to stop; what was finished is committed."""


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
