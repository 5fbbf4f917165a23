"""The base class of all errors that Pinco raises, and the errors of a photo.

The base class is here because this is the lowest package; users import it from `pinco.errors`. Messages about a photo
do not name the file: the caller knows it, and its row and column too.
"""

from __future__ import annotations


class PincoError(Exception):
    """An error that a person can act on. `str(error)` is a sentence that says what is wrong and what to do.

    Attributes:
        code: Stable name of the kind of error, for programs and for the manifest's `error_type`.
    """

    code = "pinco_error"


class PhotoError(PincoError, ValueError):
    """A photo that cannot be used; the same bytes always give the same error."""

    code = "photo_error"


class EmptyPhotoError(PhotoError):
    """A photo file without bytes."""

    code = "empty_photo"


class NotAPhotoError(PhotoError):
    """A file whose content is not an image."""

    code = "not_a_photo"


class TruncatedPhotoError(PhotoError):
    """An image file that ends early or is damaged."""

    code = "truncated_photo"


class PhotoTooLargeError(PhotoError):
    """A photo with more pixels than the limit, according to its header."""

    code = "photo_too_large"


class UnsupportedPhotoError(PhotoError):
    """An image of a kind that cannot be converted without guessing."""

    code = "unsupported_photo"


class NoProductFoundError(PhotoError):
    """A photo in which nothing differs from the backdrop."""

    code = "no_product_found"
