"""The base of all errors that Pinco raises on purpose, and what can be wrong with a photo.

The base stands here because this is the lowest package; `pinco.errors` is where users import it from. Messages about a
photo name no file: the caller knows it, and its row and column too.
"""

from __future__ import annotations


class PincoError(Exception):
    """Something that a person can act on. `str(error)` is the sentence that says what is wrong and what to do.

    Attributes:
        code: Stable name of the kind of error, for programs and for the manifest's `error_type`.
    """

    code = "pinco_error"


class PhotoError(PincoError, ValueError):
    """A photo that cannot be used; asking again with the same bytes gives the same error."""

    code = "photo_error"


class EmptyPhotoError(PhotoError):
    """No bytes."""

    code = "empty_photo"


class NotAPhotoError(PhotoError):
    """Bytes of something else than an image."""

    code = "not_a_photo"


class TruncatedPhotoError(PhotoError):
    """An image file that ends early or is damaged."""

    code = "truncated_photo"


class PhotoTooLargeError(PhotoError):
    """More pixels than the limit, by the file's header."""

    code = "photo_too_large"


class UnsupportedPhotoError(PhotoError):
    """An image of a kind that cannot be converted without guessing."""

    code = "unsupported_photo"


class NoProductFoundError(PhotoError):
    """A photo with nothing that stands out from its backdrop."""

    code = "no_product_found"
