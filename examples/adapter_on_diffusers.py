"""The adapter on a plain diffusers pipeline: attach, encode the product, generate, detach.

python examples/adapter_on_diffusers.py photo.jpg "a red mug on a wooden table" out.png
"""

import sys
from pathlib import Path

import torch
from diffusers import FluxPipeline

from pinco import PincoAdapter
from pinco.generation.builtin import ADAPTER, BACKBONE, assets
from pinco.pipelines.encoded import image_tensor, map_tensor
from preprocessing.canvas import Placement, compose
from preprocessing.cutout import make_cutout

photo, prompt, out = sys.argv[1:]
pipe = FluxPipeline.from_pretrained(assets() / BACKBONE)  # any FLUX.1 backbone, with an adapter made for it
adapter = PincoAdapter.from_pretrained(assets() / ADAPTER).attach(pipe.transformer)

canvas = compose(make_cutout(Path(photo).read_bytes()), Placement("bottom"), (128, 128))
with torch.no_grad():
    latents = pipe.vae.encode(image_tensor(canvas)).latent_dist.mode()
    latents = (latents - pipe.vae.config.shift_factor) * pipe.vae.config.scaling_factor
    subject = adapter.encode(latents, map_tensor(canvas), cache=True)  # once per product, for all prompts and seeds

with adapter.using(subject) as arguments:
    image = pipe(
        prompt, width=128, height=128, num_inference_steps=16, guidance_scale=0.0, max_sequence_length=24,
        generator=torch.Generator().manual_seed(7), **arguments,
    ).images[0]  # fmt: skip
image.save(out)

adapter.detach()
print(f"{out}; detached: {not adapter.attached}")
