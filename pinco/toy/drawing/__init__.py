"""Drawn products in drawn places: the data that the built-in model is trained on."""
