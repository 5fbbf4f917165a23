"""Which product photos there are, which one a row means, and what each hashes to."""
