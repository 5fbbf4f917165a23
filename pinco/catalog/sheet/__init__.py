"""The prompt sheet: its file, its rows, and the image requests that they stand for."""
