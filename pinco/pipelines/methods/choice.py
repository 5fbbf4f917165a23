"""Which method makes the images, by what weights there are; and why another one cannot. Starts without torch."""

from __future__ import annotations

from dataclasses import dataclass

from pinco.errors import PincoError
from pinco.method_names import BARE
from pinco.pipelines.execution import CacheName
from pinco.pipelines.families import pipelines_with
from pinco.pipelines.families.base import PipelineFamily

GUIDE = "docs/guides/methods.md"


class MethodError(PincoError, ValueError):
    """A method that the given weights cannot carry out."""

    code = "method_not_possible"


@dataclass(frozen=True)
class Given:
    """What a choice is made by.

    Attributes:
        family: Of the backbone's pipeline.
        pipeline: Name of the pipeline's class, for messages.
        adapter: Whether there is a Pinco adapter for it.
        controlnet: Whether there is a ControlNet for it.
        cache: What steps take over from earlier ones (`Execution.cache`).
    """

    family: PipelineFamily
    pipeline: str
    adapter: bool
    controlnet: bool
    cache: CacheName = "none"


def choose(asked: str, given: Given) -> str:
    """The method to use.

    Args:
        asked: Name of a method, or "auto": pinco where there is an adapter, fill where the backbone is an inpainting
            checkpoint, controlnet where there is a ControlNet, else blend.
        given: The weights.

    Raises:
        MethodError: The method is not possible, or the weights are good for none.
    """
    name = asked if asked != "auto" else _by_weights(given)
    reason = obstacle(name, given)
    if reason is not None:
        raise MethodError(reason)
    return name


def obstacle(method: str, given: Given) -> str | None:
    """Why a method is not possible, and the way out, in sentences; None where it is."""
    family = given.family
    if method == BARE and family.text_to_image:
        return None
    if method not in family.methods:
        known, others = ", ".join(family.methods), ", ".join(pipelines_with(method))
        reason = f" {family.no_controlnet}" if method == "controlnet" and family.no_controlnet else ""
        return (
            f"the method {method} is not possible with a {given.pipeline}.{reason} Choose another method ({known}), "
            f"or a backbone that can: {others}. {GUIDE} lists them"
        )
    if method == "pinco" and not given.adapter:
        return (
            "the method pinco needs a Pinco adapter for the backbone. Name its folder with --adapter (model.adapter), "
            "or leave the method to be chosen (auto)"
        )
    if method == "controlnet" and not given.controlnet:
        return (
            "the method controlnet needs an inpainting ControlNet for the backbone. Name its folder with --controlnet "
            "(model.controlnet), or leave the method to be chosen (auto)"
        )
    if method == "controlnet" and given.cache == "dbcache":
        return (
            "the method controlnet is not possible with model.cache: dbcache, in which all blocks stand as one, and a "
            "ControlNet adds to single ones. Set model.cache to none, or choose another method"
        )
    return None


def advice(given: Given) -> str:
    """One line for people whose images are made by blending because nothing better is there."""
    better = ["a Pinco adapter for this backbone (--adapter)"]
    if "fill" in given.family.methods:
        better.append("--method fill, which these weights can do")
    if "controlnet" in given.family.methods:
        better.append("an inpainting ControlNet (--controlnet)")
    if "fill" not in given.family.methods:
        better.append(f"a backbone that fills in ({', '.join(pipelines_with('fill'))})")
    return (
        "The method is blend, which needs the backbone alone and often paints a second product around the first. "
        f"Better: {', '.join(better[:-1])}, or {better[-1]}. {GUIDE} compares them."
    )


def _by_weights(given: Given) -> str:
    if given.adapter:
        return "pinco"
    if not given.family.text_to_image:
        return "fill"
    return "controlnet" if given.controlnet else "blend"
