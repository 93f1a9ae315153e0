from __future__ import annotations

import pytest

from nvr.demo.picture import Picture, read_number


@pytest.mark.parametrize("number", [0, 1, 0x555555, 0xFFFFFF, 0x1000001])
@pytest.mark.parametrize("size", [(640, 360), (160, 64), (1920, 1080)])
def test_the_number_in_the_picture_can_be_read_back(number: int, size: tuple[int, int]) -> None:
    width, height = size
    planes = Picture(width, height).draw(number, 1_700_000_000_123_000_000)
    assert len(planes.luma) == width * height
    assert len(planes.blue) == len(planes.red) == width * height // 4
    assert read_number(planes.luma, width, width) == number % (1 << 24)


def test_a_picture_without_the_mark_has_no_number() -> None:
    assert read_number(bytes(640 * 360), 640, 640) is None


@pytest.mark.parametrize("size", [(158, 64), (160, 62), (161, 64)])
def test_sizes_that_cannot_hold_the_bar_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="too small or odd"):
        Picture(*size)
