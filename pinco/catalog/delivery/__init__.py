"""From the raw image to the delivered file in the store."""
