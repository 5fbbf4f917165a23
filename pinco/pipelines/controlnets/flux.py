"""Inpainting ControlNets for Flux: what they are told by, and a class for those that diffusers cannot load.

An inpainting ControlNet takes the mask in channels of its own beside the image's latents (alimama-creative's
FLUX.1-dev-Controlnet-Inpainting-Alpha and -Beta: 68 channels, four of them the mask's). `FluxControlNetModel` of
diffusers 0.42 has an embedder for the latents alone, 64 channels, and `FluxControlNetInpaintPipeline` has no place for
the mask.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

EMBEDDER = "controlnet_x_embedder.weight"

SCALE = 0.9
"""Strength of the ControlNet, as its makers use it."""


MASK_CHANNELS = 4
"""One for each latent pixel of a token."""


def takes_a_mask(config: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether a ControlNet was made for inpainting, by the channels of its condition.

    Args:
        config: The ControlNet's configuration.
        shapes: Of its tensors, by name.
    """
    return shapes.get(EMBEDDER, (0, 0))[-1] == int(config.get("in_channels", 0)) + MASK_CHANNELS


@cache
def masked_controlnet() -> Any:
    """`FluxControlNetModel` with channels for the mask. Made when it is asked for: torch takes seconds to import."""
    import diffusers
    import torch
    from diffusers.configuration_utils import register_to_config

    class FluxControlNetModel(diffusers.FluxControlNetModel):  # its name stands in the configurations that there are
        """A ControlNet whose condition is the known image's latents with the mask behind them.

        Set `known` before it is called: `[1, N, extra_condition_channels]`, 1 where the image is known.
        """

        @register_to_config
        def __init__(
            self,
            patch_size: int = 1,
            in_channels: int = 64,
            num_layers: int = 19,
            num_single_layers: int = 38,
            attention_head_dim: int = 128,
            num_attention_heads: int = 24,
            joint_attention_dim: int = 4096,
            pooled_projection_dim: int = 768,
            guidance_embeds: bool = False,
            axes_dims_rope: tuple[int, ...] = (16, 56, 56),
            num_mode: int | None = None,
            conditioning_embedding_channels: int | None = None,
            extra_condition_channels: int = MASK_CHANNELS,
        ) -> None:
            super().__init__(
                patch_size=patch_size,
                in_channels=in_channels,
                num_layers=num_layers,
                num_single_layers=num_single_layers,
                attention_head_dim=attention_head_dim,
                num_attention_heads=num_attention_heads,
                joint_attention_dim=joint_attention_dim,
                pooled_projection_dim=pooled_projection_dim,
                guidance_embeds=guidance_embeds,
                axes_dims_rope=list(axes_dims_rope),
                num_mode=num_mode,
                conditioning_embedding_channels=conditioning_embedding_channels,
            )
            self.controlnet_x_embedder = torch.nn.Linear(in_channels + extra_condition_channels, self.inner_dim)
            self.known: Tensor | None = None

        def forward(self, hidden_states: Tensor, controlnet_cond: Tensor, *args: Any, **options: Any) -> Any:
            """As `FluxControlNetModel`; the mask is put behind `controlnet_cond`, which is `[B, N, in_channels]`."""
            if self.known is None:
                raise RuntimeError("set known before the ControlNet is called")
            known = self.known.to(controlnet_cond).expand(len(controlnet_cond), -1, -1)
            return super().forward(hidden_states, torch.cat((controlnet_cond, known), dim=-1), *args, **options)

    return FluxControlNetModel
