"""Is everything there that the manifest names, and what to do where it is not."""
