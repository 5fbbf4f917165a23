"""What can be wrong with a photo. Each error is a sentence that the person who owns the photo can act on.

The messages name no file: the caller knows it, and its row and column too. The names say what is wrong with the photo,
the base class says that it is an error.
"""

from __future__ import annotations


class PhotoError(ValueError):
    """A photo that cannot be used; asking again with the same bytes gives the same error. `code` is for manifests."""

    code = "photo_error"


class EmptyPhoto(PhotoError):
    """No bytes."""

    code = "empty_photo"


class NotAPhoto(PhotoError):
    """Bytes of something else than an image."""

    code = "not_a_photo"


class TruncatedPhoto(PhotoError):
    """An image file that ends early or is damaged."""

    code = "truncated_photo"


class PhotoTooLarge(PhotoError):
    """More pixels than the limit, by the file's header."""

    code = "photo_too_large"


class UnsupportedPhoto(PhotoError):
    """An image of a kind that cannot be converted without guessing."""

    code = "unsupported_photo"


class NoProductFound(PhotoError):
    """A photo with nothing that stands out from its backdrop."""

    code = "no_product_found"
