"""The prompt sheet: its file, its rows, and the image requests made from them."""
