"""The toy's autoencoder: diffusers' `AutoencoderKL` with the real layout (8x, 16 channels), trained from scratch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray

from pinco.catalog.quality.measures import psnr_of_error
from pinco.toy.drawing.data import Sets
from preprocessing.blend import over_neutral

# Loss weights. The VAE's fidelity inside the product is the ceiling of everything after it, hence PRODUCT_WEIGHT.
PRODUCT_WEIGHT = 3.0
KL_WEIGHT = 5e-4
SQUARE_WEIGHT = 1.0
CROP = 64
# One step in four sees whole pictures, as many pixels as the crops, so that the group norms know both.
WHOLE_EVERY = 4
# Share of samples that show the product on neutral grey: the subject is encoded that way (paper section 3.2).
NEUTRAL_SHARE = 0.25


def new_vae() -> AutoencoderKL:
    """A fresh autoencoder: `[B, 3, H, W]` in -1..1 to latents `[B, 16, H/8, W/8]`. No attention: any size is cheap."""
    vae = AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 32, 64, 96),
        layers_per_block=1,
        latent_channels=16,
        norm_num_groups=8,
        mid_block_add_attention=False,
        use_quant_conv=False,
        use_post_quant_conv=False,
        force_upcast=False,
        sample_size=128,
        shift_factor=0.0,  # both are measured once it is trained, see set_latent_scale
        scaling_factor=1.0,
    )
    # Start almost without posterior noise: with the usual unit variance the decoder sees nothing for hundreds of steps.
    with torch.no_grad():
        vae.encoder.conv_out.bias[16:] = -6.0
        vae.encoder.conv_out.weight[16:] *= 0.1
    return vae.to(memory_format=torch.channels_last)  # convolutions on the CPU are a tenth faster so


def to_signed(images: NDArray[np.uint8]) -> torch.Tensor:
    """uint8 `[N, H, W, 3]` to float32 `[N, 3, H, W]` in -1..1."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


class VaeTask:
    """Reconstruction of scenes and of products on neutral grey (`pinco.training.loop.Task`).

    With `decoder_only` the encoder is frozen: the latents, and all that was trained on them, stay what they are.
    """

    def __init__(self, vae: AutoencoderKL, train: Sets, held_out: Sets, *, decoder_only: bool = False) -> None:
        self.vae = vae
        self._decoder_only = decoder_only
        self._train = train
        self._held_out = held_out

    def parameter_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        learning = self.vae.decoder if self._decoder_only else self.vae
        return [{"params": list(learning.named_parameters()), "lr": learning_rate}]

    def loss(self, step: int, batch_size: int, generator: torch.Generator) -> tuple[torch.Tensor, dict[str, float]]:
        x, mask = self._batch(step, batch_size, generator)
        with torch.set_grad_enabled(not self._decoder_only):
            posterior = self.vae.encode(x).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=generator).to(x.device)
        y = self.vae.decode(posterior.mean + posterior.std * noise).sample.float()
        weight = 1 + PRODUCT_WEIGHT * mask
        error = y - x
        pixels = ((error.abs() + SQUARE_WEIGHT * error.square()) * weight).sum() / (weight.sum() * 3)
        kl = 0.5 * (posterior.mean.square() + posterior.var - 1 - posterior.logvar).mean()
        return pixels + KL_WEIGHT * kl, {"pixels": pixels.item(), "kl": kl.item()}

    def _batch(self, step: int, batch_size: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        sizes = list(self._train)
        whole = step % WHOLE_EVERY == 0
        size = sizes[int(torch.randint(len(sizes), (1,), generator=generator))] if whole else sizes[0]
        scenes = self._train[size]
        count = max(1, batch_size * CROP * CROP // (size[0] * size[1])) if whole else batch_size
        chosen = torch.randint(len(scenes), (count,), generator=generator).numpy()
        image, layer = scenes.image[chosen].copy(), scenes.layer[chosen]
        neutral = (torch.rand(count, generator=generator) < NEUTRAL_SHARE).numpy()
        image[neutral] = over_neutral(layer[neutral, ..., :3], layer[neutral, ..., 3])
        flip = (torch.rand(count, generator=generator) < 0.5).numpy()
        image[flip], mask = image[flip, :, ::-1], layer[..., 3].copy()
        mask[flip] = mask[flip, :, ::-1]
        if not whole:
            corners = torch.randint(0, 128 - CROP + 1, (count, 2), generator=generator).tolist()
            image = np.stack([im[y : y + CROP, x : x + CROP] for im, (y, x) in zip(image, corners, strict=True)])
            mask = np.stack([m[y : y + CROP, x : x + CROP] for m, (y, x) in zip(mask, corners, strict=True)])
        x = to_signed(image).contiguous(memory_format=torch.channels_last)
        return x.to(self.vae.device), torch.from_numpy(mask).float().div_(255)[:, None].to(self.vae.device)

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """PSNR in dB of the round trip through the latent mean, over the whole picture and inside the mask."""
        square, inside, pixels, covered = 0.0, 0.0, 0, 0.0
        for scenes in self._held_out.values():
            for start in range(0, len(scenes), 32):
                x = to_signed(scenes.image[start : start + 32]).to(self.vae.device)
                mask = torch.from_numpy(scenes.layer[start : start + 32, ..., 3]).to(x.device).eq(255)[:, None].float()
                error = (decode(self.vae, encode(self.vae, x, raw=True), raw=True) - x).div_(2).square_()
                square, pixels = square + error.sum().item(), pixels + error.numel()
                inside, covered = inside + (error * mask).sum().item(), covered + 3 * mask.sum().item()
        return {"psnr": psnr_of_error(square / pixels, peak=1), "psnr_product": psnr_of_error(inside / covered, peak=1)}


@torch.no_grad()
def encode(vae: AutoencoderKL, images: torch.Tensor, *, raw: bool = False) -> torch.Tensor:
    """Latent mean of `[B, 3, H, W]` in -1..1, as the transformer sees it: `(z - shift_factor) * scaling_factor`.

    With `raw` the latent is left as the autoencoder makes it.
    """
    z: torch.Tensor = vae.encode(images.to(vae.device, vae.dtype)).latent_dist.mode()
    return z if raw else (z - vae.config.shift_factor) * vae.config.scaling_factor


@torch.no_grad()
def decode(vae: AutoencoderKL, latents: torch.Tensor, *, raw: bool = False) -> torch.Tensor:
    """Undo `encode`: `[B, 16, h, w]` to `[B, 3, 8h, 8w]`, clipped to -1..1."""
    z = latents if raw else latents / vae.config.scaling_factor + vae.config.shift_factor
    image: torch.Tensor = vae.decode(z.to(vae.dtype)).sample
    return image.float().clamp(-1, 1)


def set_latent_scale(vae: AutoencoderKL, sets: Sets, count: int = 512) -> None:
    """Measure mean and spread of the latents and write them into the config, as the real backbones carry them."""
    latents = torch.cat(
        [
            encode(vae, to_signed(s.image[i : i + 32]), raw=True).flatten()
            for s in sets.values()
            for i in range(0, min(len(s), count // len(sets)), 32)
        ]
    )
    vae.register_to_config(shift_factor=float(latents.mean()), scaling_factor=float(1 / latents.std()))
