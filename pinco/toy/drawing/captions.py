"""English captions of the procedural scenes, and their vocabulary."""

from __future__ import annotations

import re

import numpy as np

PLACE_PHRASES: dict[str, tuple[str, ...]] = {
    "wooden table": (
        "on a wooden table",
        "on a wooden desk",
        "on a brown wooden table in a room",
        "on wood",
    ),
    "marble": (
        "on marble",
        "on a white marble surface",
        "on a marble counter with grey veins",
        "on a marble table",
    ),
    "grass": (
        "on green grass",
        "on grass under a blue sky",
        "on a lawn",
        "in a meadow with green grass",
    ),
    "sand": (
        "on sand",
        "on a sandy beach",
        "on the sand of a beach under a clear sky",
        "in a desert with sand",
    ),
    "brick wall": (
        "in front of a brick wall",
        "by a red brick wall",
        "against a brick wall",
        "before a wall of red bricks",
    ),
    "blue studio": (
        "in a blue studio",
        "on a blue studio background",
        "against a plain blue background",
        "in a studio with blue light",
    ),
    "snow": (
        "in the snow",
        "on snow with trees",
        "in a snowy winter forest",
        "on white snow in winter",
    ),
    "night city": (
        "in a city at night",
        "in a night city with lights",
        "in front of city lights at night",
        "in a dark street with colourful lights",
    ),
}

_OPENINGS = ("", "a photo of ", "a product photo of ", "a picture of ")
_ENDINGS = ("", "", "", ", soft light", ", product photo", ", catalog picture", ", high quality")
_ARTICLE_AN = re.compile(r"^[aeiou]")


def words(text: str) -> list[str]:
    """Lower-case words of `text`: runs of letters and digits, as the tokenizer splits too."""
    return re.findall(r"[a-z0-9]+", text.lower())


def caption(rng: np.random.Generator, place: str, kind: str, colour: str) -> str:
    """One caption for a scene, with the product named (colour and kind, kind alone) or left out, in equal shares.

    Where it is left out, only the place is in the text, so that the model learns to take the product from the subject.

    Args:
        rng: the only source of randomness.
        place: a key of `PLACE_PHRASES`.
        kind: the product's kind.
        colour: the name of its colour.
    """
    phrase = PLACE_PHRASES[place][rng.integers(len(PLACE_PHRASES[place]))]
    ending = _ENDINGS[rng.integers(len(_ENDINGS))]
    style = rng.integers(3)
    if style == 0:
        return phrase + ending
    named = f"{colour} {kind}" if style == 1 else kind
    article = "an" if _ARTICLE_AN.match(named) else "a"
    return f"{_OPENINGS[rng.integers(len(_OPENINGS))]}{article} {named} {phrase}{ending}"


def vocabulary(kinds: list[str], colours: list[str]) -> list[str]:
    """Every word of the captions, sorted, and common words of prompts, so that ordinary sheets can be used."""
    known = {w for phrases in PLACE_PHRASES.values() for p in phrases for w in words(p)}
    known |= {w for part in (*_OPENINGS, *_ENDINGS, *kinds, *colours, *PLACE_PHRASES) for w in words(part)}
    known |= set(
        words("a an the and with of at in on by to for under over near standing placed product item bright dark")
    )
    return sorted(known)
