from __future__ import annotations

import pytest

from pinco.catalog.sheet.channels import BUILT_IN, UNREADABLE_SIZE, Channel, ChannelError, read_channels


def test_there_are_built_in_channels() -> None:
    assert read_channels({}) == BUILT_IN
    assert BUILT_IN["square"] == Channel("square", (512, 512), "png")
    assert BUILT_IN["source"] == Channel("source", "source", "png")


def test_settings_add_and_replace() -> None:
    channels = read_channels(
        {
            "web": {"size": "1200x800", "format": "webp", "quality": 80, "profile": "srgb"},
            "square": {"size": [1024, 1024], "format": "jpeg"},
            "tall": {"size": 600},
        }
        | {"tall": {"size": "600x900"}}
    )
    assert channels["web"] == Channel("web", (1200, 800), "webp", 80, "srgb")
    assert channels["square"] == Channel("square", (1024, 1024), "jpeg")
    assert channels["square"].method is None
    assert channels["tall"].size == (600, 900)
    assert channels["source"] == BUILT_IN["source"]


def test_all_errors_are_reported_together() -> None:
    with pytest.raises(ChannelError) as caught:
        read_channels(
            {
                "a": {"size": "huge"},
                "b": {"size": "512", "format": "bmp", "quality": 0},
                "c": {"size": "512", "qualty": 1},
                "d": {},
                "e": {"size": [1, 2]},
            }
        )
    lines = str(caught.value).splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "channel 'a', size",
        "channel 'b', format",
        "channel 'b', quality",
        "channel 'c', qualty",
        "channel 'd', size",
        "channel 'e', size",
    ]
    assert lines[3].endswith("Did you mean 'quality'?")


def test_the_delivery_size_follows_the_photo_only_where_asked() -> None:
    assert BUILT_IN["square"].delivery_size((300, 200)) == (512, 512)
    assert BUILT_IN["source"].delivery_size((300, 200)) == (300, 200)
    assert BUILT_IN["source"].delivery_size(None) == UNREADABLE_SIZE


@pytest.mark.parametrize(
    ("preset", "message"),
    [
        ({"size": "512", "quallity": 5}, "quallity: there is no such setting; found 5. Did you mean 'quality'?"),
        ({"size": "512", "quality": "fine"}, "quality: it must be a whole number; found 'fine'."),
        (
            {"size": "512", "method": "paint"},
            "method: it must be 'pinco', 'blend', 'fill' or 'controlnet'; found 'paint'.",
        ),
        (
            {"size": "512", "method": "bare"},
            "method: it must be 'pinco', 'blend', 'fill' or 'controlnet'; found 'bare'.",
        ),
        ({"size": "512", "format": "gif"}, "format: it must be 'png', 'jpeg' or 'webp'; found 'gif'."),
        ({"size": {"width": 5}}, "size: write width x height as in 1024x768, or source; found {'width': 5}."),
        ({}, "size: write width x height as in 1024x768, or source; found {}."),
    ],
)
def test_mistakes_are_plain_sentences(preset: dict[str, object], message: str) -> None:
    with pytest.raises(ChannelError) as caught:
        read_channels({"web": preset})
    assert str(caught.value).startswith(f"channel 'web', {message}")


def test_a_channel_may_name_its_method() -> None:
    channels = read_channels({"hero": {"size": "512x512", "method": "fill"}})
    assert channels["hero"].method == "fill"
