from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from matplotlib.image import imsave

from critpoints.errors import InvalidArgument, InvalidData
from critpoints.landscape.masks import ICONS, as_levels, as_mask, boundary_cells, draw_icon, random_mask
from critpoints.plots.pictures import read_picture


@pytest.mark.parametrize("name", ICONS)
def test_icons_are_pictures_with_both_colours_at_every_size(name: str) -> None:
    shares = [draw_icon(name, size).mean() for size in (12, 20, 50)]
    assert all(0.1 < share < 0.7 for share in shares)
    assert max(shares) - min(shares) < 0.12  # the same picture
    assert not draw_icon(name, 50)[[0, -1]].any()  # a white frame


def test_icons_stand_upright() -> None:
    heart, star, arrow = (draw_icon(name, 40) for name in ("heart", "star", "arrow"))
    assert [np.flatnonzero(each.any(1))[-1] for each in (heart, star)] > [30, 30]
    assert heart[-1 - 5].sum() < heart[8].sum()  # a tip below
    assert arrow[6].sum() < arrow[18].sum()  # a tip above
    top = np.flatnonzero(star[np.flatnonzero(star.any(1))[0]])
    assert abs(top.mean() - 19.5) <= 0.5, "one ray of the star points up"
    for each in (heart, star, arrow):
        np.testing.assert_array_equal(each, each[:, ::-1])


@given(
    arrays.arrays(np.float64, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.floats(0, 1, width=32)),
    st.integers(3, 8),
)
@settings(max_examples=40, deadline=None)
def test_levels_are_means_over_the_cells(picture: np.ndarray, size: int) -> None:
    """By brute force: every pixel as size x size equal parts, on a white square, averaged cell by cell."""
    side = max(picture.shape)
    square = np.zeros((side, side))
    top, left = ((side - n) // 2 for n in picture.shape)
    square[top : top + picture.shape[0], left : left + picture.shape[1]] = 1 - picture
    fine = np.kron(square, np.ones((size, size)))
    expected = fine.reshape(size, side, size, side).mean((1, 3))
    np.testing.assert_allclose(as_levels(picture, size), expected, atol=1e-12)
    np.testing.assert_array_equal(as_mask(picture, size), as_levels(picture, size) > 0.5)


@given(arrays.arrays(np.bool_, arrays.array_shapes(min_dims=1, max_dims=3, max_side=6)))
@settings(max_examples=40, deadline=None)
def test_boundary_cells_have_a_neighbour_of_the_other_colour(mask: np.ndarray) -> None:
    found = boundary_cells(mask)
    for cell in np.ndindex(mask.shape):
        around = mask[tuple(slice(max(i - 1, 0), i + 2) for i in cell)]
        assert found[cell] == (around != mask[cell]).any()


def test_random_masks_have_their_filling_and_depend_on_the_seed_alone() -> None:
    mask = random_mask((200, 200), 0.3, seed=5)
    assert abs(mask.mean() - 0.3) < 4 * np.sqrt(0.3 * 0.7 / mask.size)
    np.testing.assert_array_equal(mask, random_mask((200, 200), 0.3, seed=5))
    assert (mask != random_mask((200, 200), 0.3, seed=6)).any()
    assert not random_mask((5,), 0.0, seed=0).any()
    assert random_mask((5, 5, 5), 1.0, seed=0).all()


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_pictures_are_read_from_png_files(tmp_path: Path, channels: int) -> None:
    """A black bar on white; with opacity, the rest is transparent black, which is white too."""
    bar = np.zeros((10, 10), dtype=bool)
    bar[:, 4:6] = True
    if channels == 1:
        imsave(tmp_path / "p.png", ~bar, cmap="gray")
    elif channels == 3:
        imsave(tmp_path / "p.png", np.repeat((~bar)[..., None], 3, axis=2).astype(float))
    else:
        imsave(tmp_path / "p.png", np.dstack([np.zeros((10, 10, 3)), bar]).astype(float))
    brightness = read_picture(tmp_path / "p.png")
    np.testing.assert_allclose(brightness, ~bar, atol=1e-9)
    np.testing.assert_array_equal(as_mask(brightness, 5), np.tile(np.arange(5) == 2, (5, 1)))


def test_what_is_no_picture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "p.png").write_bytes(b"\x89PNG\r\n\x1a\n damaged")
    with pytest.raises(InvalidData, match=r"p\.png is damaged or no PNG"):
        read_picture(tmp_path / "p.png")
    with pytest.raises(FileNotFoundError):
        read_picture(tmp_path / "other.png")
    with pytest.raises(InvalidData, match="brightness in"):
        as_levels(np.full((3, 3), 255.0), 3)
    with pytest.raises(InvalidArgument, match="icon must be one of heart"):
        draw_icon("unicorn")
    with pytest.raises(InvalidArgument, match="size must be at least 3"):
        draw_icon("heart", 2)
    with pytest.raises(InvalidArgument, match="filling must lie"):
        random_mask((3, 3), 1.5, seed=0)
