"""How much memory published backbones take, from their configurations alone (`bench/configs`), on the meta device.

    python bench/backbones.py

Prints the tables of `docs/backbones.md`. Nothing is downloaded and no weight is made: parameters are counted. Weights
are in bfloat16 (2 bytes), in the last column the transformer's in int8 (1 byte); activations come on top. Keys and
values are those of the default adapter for one canvas of 1024 x 1024 pixels whose product covers a quarter of it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers

from pinco.adapter import PincoAdapter
from pinco.adapter.choice import adapter_config
from pinco.adapter.sizes import AdapterSizes, adapter_sizes

CONFIGS = Path(__file__).parent / "configs"
HALF = 2
GIB = 2**30


@dataclass(frozen=True)
class Backbone:
    """Counts of one published backbone; parameters, not bytes. An inpainting checkpoint takes no adapter."""

    name: str
    hub: str
    licence: str
    transformer: int
    text: int
    vae: int
    adapter: AdapterSizes | None
    full_rank: AdapterSizes | None
    subject_tokens: int

    @property
    def beside_text(self) -> int:
        """Parameters of what is neither transformer nor text encoder."""
        return self.vae + (self.adapter.parameters if self.adapter else 0)

    @property
    def resident(self) -> float:
        """GiB of all weights together, with the default adapter."""
        return HALF * (self.transformer + self.text + self.beside_text) / GIB

    @property
    def text_elsewhere(self) -> float:
        """GiB at most at a time where the text encoders leave before the transformer comes."""
        return HALF * max(self.text, self.transformer + self.beside_text) / GIB

    @property
    def text_elsewhere_int8(self) -> float:
        """The same with the transformer's weights in 8 bit."""
        return max(HALF * self.text, self.transformer + HALF * self.beside_text) / GIB


def read(path: Path) -> Backbone:
    """Build everything that a configuration names, without weights, and count."""
    config = json.loads(path.read_text(encoding="utf-8"))
    with torch.device("meta"):
        transformer, vae = (_of_diffusers(config[part]) for part in ("transformer", "vae"))
        text = [_of_transformers(part) for part in config["text_encoders"]]
        ranks = ("auto", None) if config.get("adapter", True) else ()
        adapters = [PincoAdapter(**adapter_config(transformer, vae.config, rank=rank)) for rank in ranks]
    tokens = (config["side"] // adapters[0].settings.backbone.token_stride) ** 2 // 4 if adapters else 0
    default, full = (adapter_sizes(adapter) for adapter in adapters) if adapters else (None, None)
    return Backbone(
        path.stem,
        config["hub"],
        config["licence"],
        _count(transformer),
        sum(map(_count, text)),
        _count(vae),
        default,
        full,
        tokens,
    )


def all_backbones() -> list[Backbone]:
    """Every configuration, by name."""
    return [read(path) for path in sorted(CONFIGS.glob("*.json"))]


def tables(backbones: list[Backbone]) -> list[str]:
    """Two Markdown tables, line by line."""
    lines = [
        "| backbone | transformer | text encoders | all weights | text encoders elsewhere | and int8 |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {b.name} | {b.transformer / 1e9:.2f} B | {b.text / 1e9:.2f} B | {b.resident:.1f} GiB "
        f"| {b.text_elsewhere:.1f} GiB | {b.text_elsewhere_int8:.1f} GiB |"
        for b in backbones
    ]
    lines += [
        "",
        "| backbone | layers x width | default adapter | at full rank | keys and values of a canvas |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {b.name} | {b.adapter.layers} x {b.adapter.inner_dim} | {b.adapter.parameters / 1e6:.0f} M "
        f"| {b.full_rank.parameters / 1e6:,.0f} M | {b.adapter.cache_bytes(b.subject_tokens) / 2**20:.0f} MiB |"
        for b in backbones
        if b.adapter and b.full_rank
    ]
    return lines


def _of_diffusers(config: dict[str, Any]) -> Any:
    return getattr(diffusers, config["_class_name"]).from_config(config)


def _of_transformers(config: dict[str, Any]) -> Any:
    values = dict(config)
    model = getattr(transformers, values.pop("class"))
    return model(model.config_class(**values))


def _count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


if __name__ == "__main__":
    print("\n".join(tables(all_backbones())))
