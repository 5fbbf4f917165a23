from __future__ import annotations

import pytest
import torch

from pinco.catalog.store.base import ObjectNotFoundError, StoreError
from pinco.errors import PincoError
from pinco.generation.faults import (
    AcceleratorFaultError,
    DeviceMemoryError,
    PhotoChangedError,
    PhotoMissingError,
    is_accelerator_fault,
    is_input_fault,
    is_out_of_memory,
)
from preprocessing.errors import NoProductFoundError, PhotoError, TruncatedPhotoError


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
)
def test_out_of_memory_in_all_its_words(error: Exception) -> None:
    assert is_out_of_memory(error)
    assert not is_accelerator_fault(error)


@pytest.mark.parametrize(
    "text",
    [
        "CUDA error: an illegal memory access was encountered",
        "CUDA error: unspecified launch failure",
        "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED",
        "CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling cublasGemmEx",
    ],
)
def test_faults_of_the_device(text: str) -> None:
    assert is_accelerator_fault(RuntimeError(text))
    assert not is_out_of_memory(RuntimeError(text))


@pytest.mark.parametrize("error", [ValueError("CUDA error"), RuntimeError("mat1 and mat2 shapes cannot be multiplied")])
def test_a_programming_mistake_is_neither(error: Exception) -> None:
    assert not is_accelerator_fault(error)
    assert not is_out_of_memory(error)


@pytest.mark.parametrize(
    "kind", [PhotoError, TruncatedPhotoError, NoProductFoundError, PhotoChangedError, PhotoMissingError]
)
def test_a_photo_is_to_blame(kind: type[PincoError]) -> None:
    assert is_input_fault(kind.code)


@pytest.mark.parametrize(
    "error_type",
    [None, "KeyError", "worker_died"]
    + [kind.code for kind in (PincoError, StoreError, ObjectNotFoundError, AcceleratorFaultError, DeviceMemoryError)],
)
def test_the_system_is_to_blame(error_type: str | None) -> None:
    assert not is_input_fault(error_type)
