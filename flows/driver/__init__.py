"""The run: Ray actors, and the loop that owns them."""
