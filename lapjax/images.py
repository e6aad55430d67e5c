"""Photographs in, upright RGB arrays out; arrays in, JPEG bytes out."""

import io
import os

import numpy as np
from PIL import Image, ImageOps

from lapjax.errors import LapjaxError


def read_image(source, *, name: str | None = None) -> np.ndarray:
    """Reads one image as upright 8-bit RGB.

    EXIF rotation is applied; grey, palette, CMYK and 16-bit grey (scaled, not clipped) become RGB;
    transparent pixels are laid over white. Of several frames the first is read.

    Args:
      source: a path, the bytes of an image file, or a PIL image (left as it is).
      name: what errors call the image; by default its path.

    Returns:
      (H, W, 3) uint8.

    Raises:
      LapjaxError: missing, truncated, corrupt, not an image, or of a pixel type without a fixed range.
    """
    name = name or _name_of(source)
    if isinstance(source, Image.Image):
        return _decode(source, name)
    if isinstance(source, str | os.PathLike):
        try:
            with open(source, "rb") as file:
                source = file.read()
        except FileNotFoundError as error:
            raise LapjaxError(f"{name}: no such file; check the path") from error
        except OSError as error:
            raise LapjaxError(
                f"{name}: cannot be read ({error.strerror}); give the path of a readable image"
            ) from error
    elif not isinstance(source, bytes | bytearray | memoryview):
        raise LapjaxError(
            f"{name}: cannot be read as an image; give a path, the bytes of an image file or a PIL image"
        )
    try:
        image = Image.open(io.BytesIO(source))
    except Exception as error:  # what a decoder raises on corrupt bytes depends on the format
        reason = "the file is empty" if not len(source) else "not an image that Pillow can read"
        raise LapjaxError(f"{name}: {reason}; replace or remove it") from error
    with image:
        return _decode(image, name)


def write_jpeg(image: np.ndarray, quality: int) -> bytes:
    """Encodes (H, W, 3) uint8 as JPEG with a quality from 1 to 100.

    Raises:
      LapjaxError: another shape or type, or a quality out of range.
    """
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise LapjaxError(
            f"image: needs (H, W, 3) uint8 to be written, got {image.shape} {image.dtype}; convert it"
        )
    if not 1 <= quality <= 100:
        raise LapjaxError(f"JPEG quality {quality}: must be from 1 to 100; 85 to 95 suits photographs")
    out = io.BytesIO()
    Image.fromarray(image).save(out, "JPEG", quality=int(quality))
    return out.getvalue()


def _name_of(source):
    if isinstance(source, str | os.PathLike):
        return os.fspath(source)
    if isinstance(source, Image.Image):
        return getattr(source, "filename", "") or "PIL image"
    if isinstance(source, bytes | bytearray | memoryview):
        return f"image of {len(source)} bytes"
    return type(source).__name__


def _decode(image, name):
    try:
        image.load()
        rgb = _to_rgb(ImageOps.exif_transpose(image))
    except LapjaxError as error:
        raise LapjaxError(f"{name}: {error}") from error
    except Exception as error:  # what a decoder raises on corrupt bytes depends on the format
        raise LapjaxError(f"{name}: truncated or corrupt ({error}); replace or remove it") from error
    return np.array(rgb)


def _to_rgb(image):
    if image.mode.startswith("I"):
        grey = np.asarray(image)
        # Pillow's mode I is 32 bits wide; PNG and PGM of 16 bits arrive in it too.
        if grey.min() < 0 or grey.max() > 65535:
            raise LapjaxError("32-bit grey has no fixed white; convert it to 8 or 16 bits")
        grey = ((grey.astype(np.int64) + 128) // 257).astype(np.uint8)
        return Image.fromarray(grey).convert("RGB")
    if image.mode == "F":
        raise LapjaxError("floating-point grey has no fixed white; convert it to 8 or 16 bits")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def join_terms(*terms: str | None) -> str | None:
    """The terms of several sets of images as one text, each named once; None where none has any."""
    parts = [part for term in terms if term for part in term.split("; ")]
    return "; ".join(dict.fromkeys(parts)) or None
