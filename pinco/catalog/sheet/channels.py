"""Channels: presets of the settings for where an image is shown (size, file format), which the sheet names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pinco.catalog.ids.identity import ImageFormat
from pinco.catalog.ids.job import Size
from pinco.catalog.sheet.cells import CellError, parse_size
from pinco.catalog.sheet.problems import did_you_mean
from pinco.errors import PincoError
from pinco.method_names import MethodName
from pinco.validation import in_words, is_unknown_name, shown

UNREADABLE_SIZE: Size = (512, 512)
"""Stands for "source" where the photo's size cannot be read. The row will fail, but its ids need a size."""


@dataclass(frozen=True)
class Channel:
    """A preset.

    Attributes:
        name: As the sheet writes it.
        size: (width, height) in pixels, or "source" for the photo's own size.
        format: Of the image file.
        quality: 1..100, for JPEG and WebP.
        profile: "source" keeps the photo's colour profile, "srgb" converts the picture to sRGB.
        method: By what its images come to match their products (`pinco.method_names`); None = as the settings say.
    """

    name: str
    size: Size | Literal["source"]
    format: ImageFormat = "png"
    quality: int = 90
    profile: Literal["source", "srgb"] = "source"
    method: str | None = None

    def delivery_size(self, photo: Size | None) -> Size:
        """The size to deliver for a photo of this size; None = the photo's size cannot be read."""
        return (photo or UNREADABLE_SIZE) if self.size == "source" else self.size


BUILT_IN: dict[str, Channel] = {
    "square": Channel("square", (512, 512)),
    "source": Channel("source", "source"),
}


class ChannelError(PincoError, ValueError):
    """A channel of the settings is not valid."""

    code = "invalid_channel"


class _Preset(BaseModel):
    model_config = ConfigDict(extra="forbid")

    size: Size | str
    format: ImageFormat = "png"
    quality: int = Field(90, ge=1, le=100)
    profile: Literal["source", "srgb"] = "source"
    method: MethodName | None = None


def read_channels(presets: Mapping[str, Mapping[str, Any]]) -> dict[str, Channel]:
    """The built-in channels and those of the settings, which replace built-in ones of the same name.

    Args:
        presets: `{name: {size, format, quality, profile, method}}`.

    Raises:
        ChannelError: With every mistake in every preset.
    """
    channels = dict(BUILT_IN)
    wrong: list[str] = []
    for name, preset in presets.items():
        try:
            read = _Preset.model_validate(dict(preset))
            size = parse_size(read.size if isinstance(read.size, str) else f"{read.size[0]}x{read.size[1]}")
            channels[name] = Channel(name, size, read.format, read.quality, read.profile, read.method)
        except CellError as error:
            wrong.append(f"channel {name!r}, size: {error} {error.hint}".rstrip())
        except ValidationError as error:
            for found in error.errors():
                key = str(found["loc"][0]) if found["loc"] else ""
                hint = did_you_mean(key, _Preset.model_fields) if is_unknown_name(found) else ""
                words = "write width x height as in 1024x768, or source" if key == "size" else in_words(found)
                wrong.append(f"channel {name!r}, {key}: {words}; found {shown(found['input'])}. {hint}".rstrip())
    if wrong:
        raise ChannelError("\n".join(dict.fromkeys(wrong)))
    return channels
