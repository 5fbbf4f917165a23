"""Foreground-conditioned inpainting: thin pipelines over diffusers' own, one file per backbone family."""
