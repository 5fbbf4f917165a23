"""The built-in segmentation: a product on a plain studio backdrop."""
