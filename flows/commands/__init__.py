"""One module per command of `pinco`."""
