from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields, replace

import pytest

from pinco.catalog.ids.identity import GenerationIdentity, Recipe
from pinco.catalog.ids.job import Job

MakeIdentity = Callable[..., GenerationIdentity]

OTHER: dict[str, object] = {
    "job_id": "ff" * 32,
    "seed": 8,
    "steps": 21,
    "guidance": 3.6,
    "true_cfg": 1.0,
    "max_sequence_length": 77,
    "scheduler": "EulerDiscreteScheduler",
    "dtype": "bfloat16",
    "blending": True,
    "prune": False,
    "adapter_scale": 0.9,
    "cutout_recipe": "c2",
    "backbone_sha256": "bc" * 32,
    "adapter_sha256": None,
    "method": "blend",
    "controlnet_sha256": "cd" * 32,
    "shadow": "contact-1",
    "working_size": (128, 144),
    "delivery_size": (512, 513),
    "format": "jpeg",
    "quality": 91,
    "profile": "srgb",
    "resample": "nearest",
    "code_recipe": 0,
    "quantise": "int8",
    "compile": True,
    "cache": "first_block",
    "vae_tiling": True,
}


def test_golden_id(make_identity: MakeIdentity) -> None:
    assert make_identity().generation_id() == "c7845e480210daed47bc6b11b7eb839c94d3141753717849f73f221e2b05503d"


@pytest.mark.parametrize("name", [field.name for field in fields(GenerationIdentity)])
def test_every_field_changes_the_id(make_identity: MakeIdentity, name: str) -> None:
    identity = make_identity()
    changed = replace(identity, **{name: OTHER[name]})  # type: ignore[arg-type]
    assert changed.generation_id() != identity.generation_id()


def test_whole_numbers_are_the_same_as_floats(make_identity: MakeIdentity) -> None:
    whole = make_identity(true_cfg=4, adapter_scale=1, working_size=[128, 128])
    assert whole.generation_id() == make_identity().generation_id()


@pytest.mark.parametrize(("name", "value"), [("format", "bmp"), ("seed", -1)])
def test_impossible_values_are_refused(make_identity: MakeIdentity, name: str, value: object) -> None:
    with pytest.raises(ValueError, match=name):
        make_identity(**{name: value})


def test_a_recipe_reads_back(make_identity: MakeIdentity, make_job: Callable[..., Job]) -> None:
    recipe = Recipe(make_job().ask, make_identity())
    again = Recipe.from_json(recipe.to_json())
    assert again == recipe
    assert again.generation.generation_id() == recipe.generation.generation_id()


def test_a_recipe_of_a_version_without_ways_to_compute_keeps_its_id(
    make_identity: MakeIdentity, make_job: Callable[..., Job]
) -> None:
    recipe = Recipe(make_job().ask, make_identity())
    fields_then = json.loads(recipe.to_json())["generation"]
    assert not {"quantise", "compile", "cache", "vae_tiling"} & set(fields_then)
    again = Recipe.from_json(recipe.to_json()).generation
    assert (again.quantise, again.compile, again.cache, again.vae_tiling) == ("none", False, "none", False)
    assert again.generation_id() == recipe.generation.generation_id()


def test_a_recipe_that_contradicts_itself_is_refused(make_identity: MakeIdentity, make_job: Callable[..., Job]) -> None:
    recipe = Recipe(make_job(prompt="another").ask, make_identity())
    with pytest.raises(ValueError, match="contradicts itself"):
        Recipe.from_json(recipe.to_json())


@pytest.mark.parametrize("text", ["{}", '{"ask": {}, "generation": {}}', '{"ask": 1, "generation": 2}', "no json"])
def test_what_is_no_recipe_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        Recipe.from_json(text)


def _without_methods(text: str) -> str:
    """A recipe as it was before there were methods."""
    fields = json.loads(text)
    for name in ("method", "controlnet_sha256"):
        fields["generation"].pop(name, None)
    return json.dumps(fields)


@pytest.mark.parametrize(("adapter", "method"), [("ad" * 32, "pinco"), (None, "bare")])
def test_an_older_recipe_has_the_method_that_follows_from_its_weights_and_keeps_its_id(
    make_identity: MakeIdentity, make_job: Callable[..., Job], adapter: str | None, method: str
) -> None:
    recipe = Recipe(make_job().ask, make_identity(adapter_sha256=adapter))
    old = Recipe.from_json(_without_methods(recipe.to_json()))
    assert (old.generation.method, old.generation.controlnet_sha256) == (method, None)
    named = make_identity(adapter_sha256=adapter, method=method)
    assert old.generation.generation_id() == named.generation_id()


def test_the_recipe_names_the_method(make_identity: MakeIdentity, make_job: Callable[..., Job]) -> None:
    text = Recipe(make_job().ask, make_identity(adapter_sha256=None, method="blend")).to_json()
    assert json.loads(text)["generation"]["method"] == Recipe.from_json(text).generation.method == "blend"
