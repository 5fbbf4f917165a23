from __future__ import annotations

import hashlib

import pytest

from pinco.catalog.delivery.images import image_key, is_image_key, key_of_image, put_image
from pinco.catalog.ids.identity import ImageFormat
from pinco.catalog.store.base import Store


@pytest.mark.parametrize(("image_format", "suffix"), [("png", "png"), ("jpeg", "jpg"), ("webp", "webp")])
def test_the_name_holds_the_id_and_the_hash(image_format: ImageFormat, suffix: str) -> None:
    assert image_key("g" * 64, "0123456789abcdef" + "f" * 48, image_format) == (
        f"images/{'g' * 64}-0123456789abcdef.{suffix}"
    )


def test_an_image_is_written_once(store: Store) -> None:
    uri, sha256 = put_image(store, "gen", b"bytes", "png")
    assert sha256 == hashlib.sha256(b"bytes").hexdigest()
    assert put_image(store, "gen", b"bytes", "png") == (uri, sha256)
    assert uri == store.uri_of(f"images/gen-{sha256[:16]}.png")
    assert store.get(key_of_image(uri)) == b"bytes"
    assert put_image(store, "gen", b"other", "png")[0] != uri


@pytest.mark.parametrize("uri", ["/old/place/images/x-1.png", "s3://b/p/images/x-1.png", r"C:\store\images\x-1.png"])
def test_the_key_is_the_same_after_a_move_of_the_store(uri: str) -> None:
    assert key_of_image(uri) == "images/x-1.png"


def test_names_of_images_are_told_from_others() -> None:
    assert is_image_key(image_key("gen", "0123456789abcdef" * 4, "jpeg"))
    for other in ("images/README", "images/mug.png", "images/a/gen-0123456789abcdef.png", "gen-0123456789abcdef.png"):
        assert not is_image_key(other)
