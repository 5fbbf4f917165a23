"""A product photo becomes a cutout, then a canvas with its condition maps: pure functions on arrays."""
