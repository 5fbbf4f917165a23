"""The parts of the built-in model and how they become folders that diffusers reads."""
