"""The adapter on a plain diffusers pipeline: what `pinco.pipelines.pipeline.load_pipeline` does for you.

python examples/adapter_on_diffusers.py photo.jpg "a red mug in the snow" out.png
"""

import sys
from pathlib import Path

import torch
from diffusers import DiffusionPipeline

from pinco import PincoAdapter
from pinco.generation.builtin import ADAPTER, BACKBONE, assets
from pinco.pipelines.encoded import image_tensor, map_tensor
from preprocessing.canvas import Placement, compose
from preprocessing.cutout import make_cutout

photo, prompt, out = sys.argv[1:]
canvas = compose(make_cutout(Path(photo).read_bytes()), Placement("centre", scale=0.5), (128, 128))

pipe = DiffusionPipeline.from_pretrained(assets() / BACKBONE)
adapter = PincoAdapter.from_pretrained(assets() / ADAPTER).attach(pipe.transformer)
with torch.no_grad():
    latents = pipe.vae.encode(image_tensor(canvas)).latent_dist.mode()
    latents = (latents - pipe.vae.config.shift_factor) * pipe.vae.config.scaling_factor
    subject = adapter.encode(latents, map_tensor(canvas), cache=True)
with adapter.using(subject) as kwargs:
    image = pipe(prompt, width=128, height=128, num_inference_steps=16, max_sequence_length=24, **kwargs).images[0]
image.save(out)
adapter.detach()
print(f"{out}: the product's place is {subject.tokens.shape[1]} of {subject.latent_tokens} tokens")
print(f"detached: {not adapter.attached}")
