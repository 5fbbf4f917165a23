from __future__ import annotations

import pytest

from preprocessing import errors

KINDS = [
    errors.EmptyPhotoError,
    errors.NotAPhotoError,
    errors.TruncatedPhotoError,
    errors.PhotoTooLargeError,
    errors.UnsupportedPhotoError,
    errors.NoProductFoundError,
]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_caught_as_photo_error_and_reads_as_its_sentence(kind: type[errors.PhotoError]) -> None:
    with pytest.raises(errors.PhotoError, match="a sentence"):
        raise kind("a sentence")


def test_codes_tell_the_kinds_apart() -> None:
    assert len({kind.code for kind in KINDS} | {errors.PhotoError.code}) == len(KINDS) + 1
