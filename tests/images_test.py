"""Reading: every kind of photograph becomes upright RGB, and a bad one is named."""

import io

import numpy as np
import pytest
from PIL import Image

from lapjax.errors import LapjaxError
from lapjax.images import read_image, write_jpeg


def _picture(height=24, width=40):
    """Smooth, not symmetric under any flip or rotation."""
    y, x = np.mgrid[:height, :width]
    return np.stack([4 * x + 20, 5 * y + 30, 2 * (x + y) + 40], -1).astype(np.uint8)


def _saved(image, kind, **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def test_path_bytes_and_pil_image_are_one(tmp_path):
    picture = _picture()
    path = tmp_path / "a.png"
    Image.fromarray(picture).save(path)
    for source in (
        path,
        str(path),
        path.read_bytes(),
        bytearray(path.read_bytes()),
        Image.fromarray(picture),
    ):
        read = read_image(source)
        assert read.dtype == np.uint8 and read.flags.writeable
        np.testing.assert_array_equal(read, picture)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied(orientation):
    # What a camera in that position stores, for the upright picture to come out.
    store = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(store(_picture())))
    np.testing.assert_array_equal(read_image(_saved(stored, "PNG", exif=exif)), _picture())
    jpeg = read_image(_saved(stored, "JPEG", exif=exif, quality=100, subsampling=0))
    assert np.abs(jpeg.astype(int) - _picture()).max() <= 4


def test_grey_becomes_three_equal_channels():
    grey = _picture()[..., 0]
    for mode in ("L", "1"):
        image = Image.fromarray(grey).convert(mode)
        read = read_image(_saved(image, "PNG"))
        np.testing.assert_array_equal(read, np.repeat(np.asarray(image.convert("L"))[..., None], 3, 2))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_16_bit_grey_is_scaled_not_clipped(kind):
    grey = np.linspace(0, 65535, 24 * 40).reshape(24, 40).round().astype(np.uint16)
    read = read_image(_saved(Image.fromarray(grey), kind))
    np.testing.assert_array_equal(read[..., 0], np.round(grey / 257))
    np.testing.assert_array_equal(read[..., 0], read[..., 2])


def test_cmyk_jpeg():
    image = Image.fromarray(_picture()).convert("CMYK")
    read = read_image(_saved(image, "JPEG", quality=100, subsampling=0))
    assert np.abs(read.astype(int) - _picture()).max() <= 6


def test_palette_keeps_its_colours():
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)[np.arange(960).reshape(24, 40) % 3]
    np.testing.assert_array_equal(read_image(_saved(Image.fromarray(colours).quantize(8), "PNG")), colours)
    np.testing.assert_array_equal(read_image(_saved(Image.fromarray(colours).quantize(8), "GIF")), colours)


def test_transparent_pixels_lie_on_white():
    alpha = np.zeros((24, 40, 1), np.uint8)
    alpha[:, 20:] = 255
    expected = np.where(alpha > 0, _picture(), 255)
    rgba = Image.fromarray(np.concatenate([_picture(), alpha], -1))
    np.testing.assert_array_equal(read_image(_saved(rgba, "PNG")), expected)
    grey = read_image(_saved(rgba.convert("LA"), "PNG"))
    assert (grey[:, :20] == 255).all() and (grey[:, 20:] < 255).any()
    two = Image.fromarray((alpha[..., 0] > 0).astype(np.uint8)).convert("P")
    two.putpalette([9, 9, 9, 50, 60, 70])
    read = read_image(_saved(two, "PNG", transparency=0))
    np.testing.assert_array_equal(read, np.where(alpha > 0, [50, 60, 70], 255))


def test_a_pil_image_is_left_as_it_is():
    image = Image.fromarray(_picture()).convert("L")
    read_image(image)
    assert image.mode == "L" and image.size == (40, 24)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP"])
@pytest.mark.parametrize("keep", [0.02, 0.3, 0.7, 0.95])
def test_truncated_files_are_named(kind, keep, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = _saved(Image.fromarray(noise), kind)
    path = tmp_path / "broken.img"
    path.write_bytes(data[: int(keep * len(data))])
    with pytest.raises(LapjaxError, match="replace or remove it") as caught:
        read_image(path)
    assert str(path) in str(caught.value)


def test_corrupt_bytes_never_escape_as_another_error():
    """Whatever is damaged, the image is read or refused as LapjaxError; nothing else comes out."""
    rng = np.random.default_rng(1)
    refused = 0
    for kind in ("JPEG", "PNG", "GIF", "TIFF", "BMP", "WEBP"):
        data = np.frombuffer(_saved(Image.fromarray(_picture()), kind), np.uint8)
        for _ in range(40):
            broken = data.copy()
            broken[rng.integers(0, len(data), 6)] = rng.integers(0, 256, 6)
            try:
                read_image(broken.tobytes(), name="broken")
            except LapjaxError as error:
                assert str(error).startswith("broken: ")
                refused += 1
    assert refused > 20


def test_missing_empty_and_foreign_files(tmp_path):
    with pytest.raises(LapjaxError, match="none.jpg: no such file; check the path"):
        read_image(tmp_path / "none.jpg")
    with pytest.raises(LapjaxError, match="cannot be read"):
        read_image(tmp_path)
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(LapjaxError, match="empty.jpg: the file is empty"):
        read_image(tmp_path / "empty.jpg")
    (tmp_path / "text.jpg").write_text("not a photograph")
    with pytest.raises(LapjaxError, match="text.jpg: not an image"):
        read_image(tmp_path / "text.jpg")
    with pytest.raises(LapjaxError, match="0007.jpg: "):
        read_image(b"nonsense", name="0007.jpg")
    with pytest.raises(LapjaxError, match="int: cannot be read"):
        read_image(3)


def test_grey_without_a_fixed_white_is_refused():
    with pytest.raises(LapjaxError, match="floating-point grey"):
        read_image(_saved(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF"))
    with pytest.raises(LapjaxError, match="32-bit grey"):
        read_image(_saved(Image.fromarray(np.full((4, 4), 70000, np.int32)), "TIFF"))


def test_jpeg_round_trip_and_quality():
    data = write_jpeg(_picture(), 95)
    assert np.abs(read_image(data).astype(int) - _picture()).max() <= 8
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert len(write_jpeg(noise, 95)) > len(write_jpeg(noise, 60))


@pytest.mark.parametrize(
    ("image", "quality"),
    [(np.zeros((4, 4), np.uint8), 90), (np.zeros((4, 4, 3)), 90), (_picture(), 0), (_picture(), 101)],
)
def test_jpeg_bad_input(image, quality):
    with pytest.raises(LapjaxError, match="uint8|quality"):
        write_jpeg(image, quality)
