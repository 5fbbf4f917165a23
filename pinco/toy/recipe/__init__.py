"""How the built-in model is trained, measured and documented."""
