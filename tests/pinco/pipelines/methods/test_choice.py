from __future__ import annotations

from dataclasses import replace

import pytest

from pinco.pipelines.families import pipeline_family
from pinco.pipelines.methods.choice import Given, MethodError, advice, choose, obstacle


def _given(pipeline: str, **weights: bool) -> Given:
    return Given(pipeline_family(pipeline), pipeline, **({"adapter": False, "controlnet": False} | weights))


@pytest.mark.parametrize(
    ("pipeline", "weights", "wanted"),
    [
        ("FluxPipeline", {}, "blend"),
        ("FluxPipeline", {"adapter": True}, "pinco"),
        ("FluxPipeline", {"controlnet": True}, "controlnet"),
        ("FluxPipeline", {"adapter": True, "controlnet": True}, "pinco"),
        ("FluxFillPipeline", {}, "fill"),
        ("Flux2KleinPipeline", {}, "blend"),
        ("HunyuanDiTPipeline", {}, "blend"),
        ("StableDiffusion3Pipeline", {"controlnet": True}, "controlnet"),
    ],
)
def test_auto_goes_by_the_weights(pipeline: str, weights: dict[str, bool], wanted: str) -> None:
    assert choose("auto", _given(pipeline, **weights)) == wanted


def test_what_is_asked_for_goes_first() -> None:
    both = _given("FluxPipeline", adapter=True, controlnet=True)
    assert [choose(name, both) for name in ("pinco", "blend", "controlnet")] == ["pinco", "blend", "controlnet"]
    assert choose("fill", _given("Flux2KleinPipeline", adapter=True)) == "fill"


@pytest.mark.parametrize(
    ("asked", "given", "message"),
    [
        ("pinco", _given("FluxPipeline"), r"needs a Pinco adapter .* --adapter \(model\.adapter\)"),
        ("controlnet", _given("FluxPipeline"), r"needs an inpainting ControlNet .* --controlnet \(model\.controlnet\)"),
        ("fill", _given("FluxPipeline"), r"fill is not possible with a FluxPipeline.*FluxFillPipeline.*methods\.md"),
        ("blend", _given("FluxFillPipeline"), r"blend is not possible with a FluxFillPipeline.* method \(fill\)"),
        ("auto", _given("FluxFillPipeline", adapter=True), "pinco is not possible with a FluxFillPipeline"),
        ("controlnet", _given("ZImagePipeline"), r"with a ZImagePipeline\. Choose another method \(pinco, blend\)"),
    ],
)
def test_what_is_not_possible_is_said_with_the_way_out(asked: str, given: Given, message: str) -> None:
    with pytest.raises(MethodError, match=message):
        choose(asked, given)


def test_a_cache_that_takes_all_blocks_as_one_leaves_a_controlnet_nothing_to_add_to() -> None:
    given = _given("FluxPipeline", controlnet=True)
    assert obstacle("controlnet", replace(given, cache="first_block")) is None
    assert obstacle("blend", replace(given, cache="dbcache")) is None
    assert "Set model.cache to none" in str(obstacle("controlnet", replace(given, cache="dbcache")))


def test_the_bare_backbone_needs_text_to_image() -> None:
    assert obstacle("bare", _given("FluxPipeline")) is None
    assert obstacle("bare", _given("FluxFillPipeline")) is not None


def test_the_advice_is_one_line_that_names_what_these_weights_lack() -> None:
    for pipeline, there, absent in (
        ("FluxPipeline", ("--adapter", "--controlnet", "FluxFillPipeline"), ("--method fill",)),
        ("Flux2KleinPipeline", ("--adapter", "--method fill"), ("--controlnet", "FluxFillPipeline")),
        ("HunyuanDiTPipeline", ("--adapter", "FluxFillPipeline"), ("--controlnet", "--method fill")),
    ):
        line = advice(replace(_given("FluxPipeline"), family=pipeline_family(pipeline), pipeline=pipeline))
        assert "\n" not in line and line.startswith("The method is blend")
        assert all(word in line for word in there) and not any(word in line for word in absent)
