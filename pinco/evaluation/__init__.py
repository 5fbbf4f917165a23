"""Measures of pictures, always of the raw image, before the product is pasted back."""
