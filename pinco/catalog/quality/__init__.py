"""What is measured on every image, and the status that follows from it."""
