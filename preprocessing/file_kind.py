"""What a file is, by its first bytes, and what its header asks of a decoder, before any decoder sees it."""

from __future__ import annotations

READABLE = ("JPEG", "PNG", "WEBP")
"""Formats that are decoded; Pillow's names. No other decoder is ever started on a photo."""

_SIGNATURES = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"GIF8", "GIF"),
    (b"8BPS", "PSD"),
    (b"DDS ", "DDS"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\1\0", "ICO"),
)
_BRANDS = {b"avif": "AVIF", b"avis": "AVIF", b"mif1": "HEIF", b"msf1": "HEIF", b"crx ": "CR3"}


def file_kind(data: bytes) -> str:
    """The format of an image file ("JPEG", "WEBP", "TIFF", ...); "" where the bytes are no known image format."""
    for signature, name in _SIGNATURES:
        if data.startswith(signature):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[4:8] == b"ftyp":
        return _BRANDS.get(data[8:12], "HEIC" if data[8:10] == b"he" else "")
    if data[:2] == b"BM" and data[6:10] == b"\0\0\0\0":  # two letters alone may begin any text
        return "BMP"
    return "SVG" if b"<svg" in data[:1000] else ""


def webp_canvas(data: bytes) -> tuple[int, int] | None:
    """(width, height) of an extended WebP file (RFC 9649, 2.7); None for simple files, whose sides are 14 bits.

    The decoder allocates the canvas, of up to 2^32 pixels, when the file is opened.
    """
    if data[12:16] != b"VP8X" or len(data) < 30:
        return None
    return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")


def jpeg_scans(data: bytes) -> int:
    """How many scans (passes over the picture) a JPEG file has before its end marker (ITU-T T.81, B.1 and B.2).

    A scan of a few bytes may touch all pixels, so that a small file can keep a decoder busy for hours.
    """
    scans, at = 0, 2
    while 0 <= (at := data.find(b"\xff", at)) < len(data) - 3:
        marker = data[at + 1]
        if marker == 0xD9:  # end of image
            break
        if marker in (0x00, 0x01, 0xFF) or 0xD0 <= marker <= 0xD8:  # stuffing, padding, restarts: no length follows
            at += 1 if marker == 0xFF else 2
            continue
        scans += marker == 0xDA
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return scans
