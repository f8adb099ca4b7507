"""Pictures as volumes of one slice: grey, colours, palettes, stacks; against the arrays they were made of."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from segexplorer.core.errors import DataError
from segexplorer.data.geometry import DisplayGrid
from segexplorer.data.io import open_volume

ROWS, COLUMNS = 5, 7
GREY = np.random.default_rng(0).integers(0, 256, (ROWS, COLUMNS)).astype(np.uint8)
RGB = np.random.default_rng(1).integers(0, 256, (ROWS, COLUMNS, 3)).astype(np.uint8)


def refusal(path: Path, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        open_volume(path, **options).array  # noqa: B018
    assert caught.value.remedy and path.name in caught.value.message
    return caught.value.message


def saved(path: Path, pixels: NDArray[Any]) -> Path:
    if path.suffix == ".tif":
        colours = pixels.ndim == 3 and pixels.shape[-1] in (3, 4)
        tifffile.imwrite(path, pixels, photometric="rgb" if colours else "minisblack")
    else:
        Image.fromarray(pixels).save(path)
    return path


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_a_grey_picture_is_one_slice_shown_as_it_is(tmp_path: Path, suffix: str) -> None:
    volume = open_volume(saved(tmp_path / f"a{suffix}", GREY))
    assert volume.shape == (COLUMNS, ROWS, 1) and volume.spacing == (1, 1, 1) and not volume.loaded
    assert np.array_equal(volume.array[..., 0], GREY.T) and volume.array.dtype == np.uint8
    assert any("1 mm" in note for note in volume.notes)
    again = pickle.loads(pickle.dumps(volume))
    assert np.array_equal(again.array, volume.array)
    # radiological display draws x to the left and y upwards, so that this is the picture
    shown = DisplayGrid.of(volume).to_display(volume.array)
    assert np.array_equal(shown[0][::-1, ::-1], GREY)


def test_jpeg_is_as_pillow_has_it(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.jpg", GREY)
    assert np.array_equal(open_volume(path).array[..., 0], np.asarray(Image.open(path)).T)
    assert any("JPEG" in note for note in open_volume(path, label=True).notes)


@pytest.mark.parametrize("dtype", ["uint16", "int32", "float32"])
def test_wide_pixels_keep_their_values(tmp_path: Path, dtype: str) -> None:
    wide = (GREY.astype(np.float64) * 200).astype(dtype)
    assert np.array_equal(open_volume(saved(tmp_path / "a.tif", wide)).array[..., 0], wide.T)
    if dtype == "uint16":
        assert np.array_equal(open_volume(saved(tmp_path / "a.png", wide)).array[..., 0], wide.T)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_colours_give_their_brightness_or_the_one_asked_for(tmp_path: Path, suffix: str) -> None:
    path = saved(tmp_path / f"a{suffix}", RGB)
    volume = open_volume(path)
    expected = np.rint(RGB @ np.array([0.299, 0.587, 0.114]))
    assert np.array_equal(volume.array[..., 0], expected.T) and volume.array.dtype == np.uint8
    assert any("colour picture" in note for note in volume.notes)
    for k, name in enumerate(("red", "green", "blue")):
        assert np.array_equal(open_volume(path, select=name).array[..., 0], RGB[..., k].T)
    assert "no channel violet" in refusal(path, select="violet").replace("frame", "channel")
    grey = saved(tmp_path / f"g{suffix}", np.stack([GREY] * 3, -1))
    assert np.array_equal(open_volume(grey).array[..., 0], GREY.T)


def test_transparency_is_left_out(tmp_path: Path) -> None:
    alpha = np.dstack([GREY, GREY, GREY, 255 - GREY])
    assert np.array_equal(open_volume(saved(tmp_path / "a.png", alpha)).array[..., 0], GREY.T)
    Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(255 - GREY)]).save(tmp_path / "b.png")
    assert np.array_equal(open_volume(tmp_path / "b.png").array[..., 0], GREY.T)


def test_a_palette_gives_a_label_its_indices(tmp_path: Path) -> None:
    indices = GREY % 3
    image = Image.fromarray(indices)
    image.putpalette([0, 0, 0, 250, 0, 0, 0, 0, 250])
    image.save(tmp_path / "mask.png")
    label = open_volume(tmp_path / "mask.png", label=True)
    assert np.array_equal(label.array[..., 0], indices.T) and label.array.dtype == np.uint8
    # also where nobody says that it is one; its colours would be other values
    assert np.array_equal(open_volume(tmp_path / "mask.png").array, label.array)


def test_a_palette_of_many_colours_is_a_picture(tmp_path: Path) -> None:
    indices = np.arange(100, dtype=np.uint8).reshape(10, 10)
    palette = np.random.default_rng(5).integers(0, 256, (256, 3)).astype(np.uint8)
    image = Image.fromarray(indices)
    image.putpalette(palette.ravel().tolist())
    image.save(tmp_path / "a.png")
    expected = np.rint(palette[indices] @ np.array([0.299, 0.587, 0.114]))
    assert np.array_equal(open_volume(tmp_path / "a.png").array[..., 0], expected.T)
    assert np.array_equal(open_volume(tmp_path / "a.png", label=True).array[..., 0], indices.T)


def test_labels_of_one_bit_and_in_colours(tmp_path: Path) -> None:
    Image.fromarray(GREY > 99).save(tmp_path / "bit.png")
    assert np.array_equal(open_volume(tmp_path / "bit.png", label=True).array[..., 0], (GREY > 99).T)
    path = saved(tmp_path / "rgb.png", RGB)
    assert "in colours" in refusal(path, label=True)
    assert np.array_equal(open_volume(path, label=True, select="red").array[..., 0], RGB[..., 0].T)


def test_pages_are_slices_and_channels_are_chosen(tmp_path: Path) -> None:
    stack = np.random.default_rng(2).integers(0, 999, (6, ROWS, COLUMNS)).astype(np.uint16)
    volume = open_volume(saved(tmp_path / "a.tif", stack))
    assert np.array_equal(volume.array, stack.transpose(2, 1, 0))
    pages = [Image.fromarray(page.astype(np.uint8)) for page in stack]
    pages[0].save(tmp_path / "p.tif", save_all=True, append_images=pages[1:])
    assert open_volume(tmp_path / "p.tif").shape == (COLUMNS, ROWS, 6)
    both = np.stack([stack, stack + 1], 1)
    tifffile.imwrite(tmp_path / "c.tif", both, imagej=True, metadata={"axes": "ZCYX"})
    assert "holds 2 volumes" in refusal(tmp_path / "c.tif")
    assert np.array_equal(open_volume(tmp_path / "c.tif", select=1).array, (stack + 1).transpose(2, 1, 0))


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_broken_pictures_end_in_a_sentence(tmp_path: Path, suffix: str) -> None:
    path = saved(tmp_path / f"a{suffix}", np.tile(GREY, (40, 40)))
    content = path.read_bytes()
    for kept in (0, 5, 40):
        path.write_bytes(content[:kept])
        assert refusal(path)
    path.write_text("no picture")
    assert "not a readable" in refusal(path)


def test_a_png_that_is_cut_off(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", np.random.default_rng(0).integers(0, 255, (90, 90)).astype(np.uint8))
    path.write_bytes(path.read_bytes()[:3000])
    assert "cut off" in refusal(path)


def test_a_picture_beyond_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "a.png", GREY)
    monkeypatch.setattr("segexplorer.data.formats.pictures.MAX_PIXELS", 30)
    assert "million pixels" in refusal(path)


def test_real_ultrasound_and_its_masks(shared_data: Path) -> None:
    for image in sorted((shared_data / "us_nerve_usgra").glob("*[0-9].png")):
        volume, label = (
            open_volume(image),
            open_volume(image.with_name(f"{image.stem}_mask.png"), label=True),
        )
        assert volume.shape == label.shape and np.array_equal(volume.affine, label.affine)
        assert set(np.unique(label.array)) == {0, 1, 2}
        reference = np.asarray(Image.open(image.with_name(f"{image.stem}_mask.png")))
        assert np.array_equal(label.array[..., 0], reference.T)
        np.testing.assert_allclose(
            volume.array[..., 0].astype(int), np.asarray(Image.open(image).convert("L")).T.astype(int), atol=1
        )


def test_many_samples_of_a_pixel_are_channels(tmp_path: Path) -> None:
    channels = np.random.default_rng(4).integers(0, 99, (ROWS, COLUMNS, 6)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", channels, photometric="minisblack", planarconfig="contig")
    assert "holds 6 volumes" in refusal(tmp_path / "a.tif")
    assert np.array_equal(open_volume(tmp_path / "a.tif", select=4).array[..., 0], channels[..., 4].T)


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("tile", [None, (16, 16)])
def test_a_tiff_that_lacks_a_part_is_not_filled_up(
    tmp_path: Path, compression: str | None, tile: tuple[int, int] | None
) -> None:
    path = tmp_path / "a.tif"
    pixels = np.random.default_rng(6).integers(0, 60_000, (3, 90, 70)).astype(np.uint16)
    rows = {"rowsperstrip": 8} if tile is None else {"tile": tile}
    tifffile.imwrite(path, pixels, photometric="minisblack", compression=compression, **rows)
    assert np.array_equal(open_volume(path).array, pixels.transpose(2, 1, 0))
    path.write_bytes(path.read_bytes()[:-2000])
    assert refusal(path)


@pytest.mark.parametrize("pixels", [GREY, RGB, np.stack([GREY, 255 - GREY, GREY // 2, GREY])])
def test_a_tiff_packed_by_lzw(tmp_path: Path, pixels: NDArray[Any]) -> None:
    pages = [Image.fromarray(page) for page in (pixels if len(pixels) == 4 else [pixels])]
    pages[0].save(tmp_path / "a.tif", compression="tiff_lzw", save_all=True, append_images=pages[1:])
    pages[0].save(tmp_path / "b.tif", save_all=True, append_images=pages[1:])
    packed, plain = open_volume(tmp_path / "a.tif"), open_volume(tmp_path / "b.tif")
    assert packed.shape == plain.shape and np.array_equal(packed.array, plain.array)
