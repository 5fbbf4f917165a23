"""How pictures are judged: always the raw output, before the product is pasted back."""
