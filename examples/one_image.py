"""One catalog image from a product photo and a prompt: no sheet, no store, no cluster.

python examples/one_image.py photo.jpg "a red mug on a wooden table" out.png
"""

import sys
from pathlib import Path

from pinco import ImageMaker

photo, prompt, out = sys.argv[1:]
maker = ImageMaker()  # the built-in model; ImageMaker(ModelSettings(backbone="models/FLUX.1-dev")) takes another
image = maker.make(Path(photo).read_bytes(), prompt, seed=7)
Path(out).write_bytes(image.file)
print(f"{out}: {image.status} {image.reason}".strip())
print(f"product untouched: {image.core_identical}, generation {image.generation_id[:12]}")
