"""The built-in way to a mask: a product on a plain studio backdrop."""
