"""One module per pipeline family: what Pinco must know to call its diffusers pipelines. Starts without torch.

Every module of this folder that defines `FAMILY` is found by itself; `register` adds one from elsewhere.
"""

from __future__ import annotations

import importlib
import pkgutil

from pinco.errors import PincoError
from pinco.pipelines.families.base import PipelineFamily

_FAMILIES: dict[str, PipelineFamily] = {}


class UnknownPipelineError(PincoError, ValueError):
    """A backbone's folder that holds a pipeline which no family knows."""

    code = "unknown_pipeline"


class UnsupportedBackboneError(PincoError, ValueError):
    """A backbone of a known kind that Pinco cannot run; the message names one to take instead."""

    code = "unsupported_backbone"


def register(family: PipelineFamily) -> PipelineFamily:
    """Make a family known for all its pipelines, in the place of earlier ones; returns it."""
    _FAMILIES.update(dict.fromkeys(family.pipelines, family))
    return family


def pipeline_family(pipeline: str, where: object = "the folder") -> PipelineFamily:
    """The family of a diffusers pipeline.

    Args:
        pipeline: Name of its class.
        where: What holds it, for the message.

    Raises:
        UnsupportedBackboneError: A family knows it and cannot run it; the message says why, and what to take instead.
        UnknownPipelineError: No family knows it; the message names what is known.
    """
    for family in _FAMILIES.values():
        if pipeline in family.refused:
            raise UnsupportedBackboneError(f"{where} holds a {pipeline}, which {family.refused[pipeline]}")
    if pipeline not in _FAMILIES:
        raise UnknownPipelineError(
            f"{where} holds a {pipeline}; Pinco can run {', '.join(sorted(_FAMILIES))}. Name the folder of one of these"
        )
    return _FAMILIES[pipeline]


def pipelines_with(method: str) -> list[str]:
    """Names of all diffusers pipelines that a method can be used with, the weights provided."""
    return sorted(name for name, family in _FAMILIES.items() if method in family.methods)


for _module in pkgutil.iter_modules(__path__, __name__ + "."):
    _family = getattr(importlib.import_module(_module.name), "FAMILY", None)
    if _family is not None:
        register(_family)

__all__ = [
    "PipelineFamily",
    "UnknownPipelineError",
    "UnsupportedBackboneError",
    "pipeline_family",
    "pipelines_with",
    "register",
]
