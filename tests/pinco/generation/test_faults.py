from __future__ import annotations

import pytest
import torch

from pinco.generation.faults import is_accelerator_fault, is_out_of_memory


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
