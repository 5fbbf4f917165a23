"""What was asked and what was made, as two hashes."""
