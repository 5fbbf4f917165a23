"""Settings files: damaged ones, and ones made of what people and attackers write."""

from __future__ import annotations

import os
import random
import tempfile
from pathlib import Path

from flows.settings import Settings, load_settings
from flows.settings_errors import setting_names
from pinco.catalog.sheet.channels import read_channels
from pinco.catalog.sheet.template import PromptTemplate
from tests.fuzz.mutate import mutated
from tests.fuzz.run import Target

_GOOD = b"""\
# settings of the shop
model: {backbone: /models/large, steps: 20, dtype: auto}
ray:
  address: local
  generators: 2
  threads: 1
channels: &channels
  web: {size: 1200x800, format: webp, quality: 80, profile: srgb}
  tall: {size: [600, 900]}
templates:
  winter: 'a {{ product }} in the snow, {{ light | default("daylight") }}'
quality: {review_confidence: 0.7}
sheet: {channel: web, placement: bottom, scale: 0.6}
s3_endpoint: http://127.0.0.1:9000
"""
_VALUES = (
    "1", "-1", "0", "many", "no", "yes", "~", "''", "[]", "{}", "[1, 2]", "{a: b}", "1e999", ".nan", ".inf",
    "2026-99-99", "0x" + "f" * 5000, "9" * 5000, "!!python/object/apply:os.system [x]", "!!set {a, b}", "!!binary x",
    "!!int x", "*a", "*channels", "&b [*b]", "{<<: *channels}", "'{{ x'",
    "'{% if \"%999999999d\" is divisibleby 1 %}'", "|\n  text\n", "1:2:3", "\"\\ud800\"", "\"\\0\"",
    "'" + "x" * 3000 + "'", "[" * 200, "? {a: b}", "%YAML", "@x", "\t1", "- x",
)  # fmt: skip
_NAMES = sorted({".".join(name) for name in setting_names(Settings)})


def _file(chance: random.Random) -> bytes:
    if chance.random() < 0.5:
        return mutated(_GOOD, chance)
    lines = [] if chance.random() < 0.5 else _GOOD.decode().splitlines()
    for _ in range(chance.randrange(1, 4)):
        name = chance.choice(
            [*_NAMES, "5", "[a]", "no", "<<", "'\\0'", "modle", "ray.threads", "templates.x", "channels.x"]
        )
        section, _, setting = name.partition(".")
        value = chance.choice(_VALUES)
        lines.append(f"{section}: {{{setting}: {value}}}" if setting else f"{section}: {value}")
    data = "\n".join(lines).encode(chance.choice(("utf-8", "utf-8", "utf-16")), errors="replace")
    return mutated(data, chance) if chance.random() < 0.2 else data


def _load(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pinco.yaml"
        path.write_bytes(data)
        before = os.environ.get("PINCO_CONFIG")
        os.environ["PINCO_CONFIG"] = str(path)
        try:
            settings = load_settings()
        finally:
            os.environ.pop("PINCO_CONFIG")
            if before is not None:
                os.environ["PINCO_CONFIG"] = before
    read_channels(settings.channels)
    for text in settings.templates.values():
        PromptTemplate(text)


SETTINGS = Target("settings", _file, _load)
