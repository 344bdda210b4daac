"""Sizes as people write them."""

import pytest

from semantic.domain.errors import InvalidSizeError
from semantic.domain.value_objects import format_size, parse_size


@pytest.mark.parametrize(
    ("text", "num_bytes"),
    [
        ("1GB", 1_000_000_000),
        ("1GiB", 1_073_741_824),
        ("512MB", 512_000_000),
        ("1.5GB", 1_500_000_000),
        ("0.1 kb", 100),
        (" 2 tib ", 2_199_023_255_552),
        ("1TB", 1_000_000_000_000),
        ("3KiB", 3_072),
        ("4MiB", 4_194_304),
        ("7B", 7),
        ("4096", 4_096),
        (4_096, 4_096),
        (2e9, 2_000_000_000),
    ],
)
def test_a_size_is_read_in_bytes(text: "str | int | float", num_bytes: int) -> None:
    assert parse_size(text) == num_bytes


@pytest.mark.parametrize(
    "nonsense",
    [
        *["", "GB", "-1GB", "nan", "inf", "1e9", "1,5GB", "1G", "1 XB", "0", "0GB", "0.1B", "1GB 2MB"],
        *[0, -1, 1.5, float("nan"), float("inf"), True, None, [1], b"1GB"],
    ],
)
def test_what_is_not_a_positive_size_is_refused(nonsense: object) -> None:
    with pytest.raises(InvalidSizeError):
        parse_size(nonsense)  # type: ignore[arg-type]


def test_an_unknown_unit_is_named_and_the_known_ones_listed() -> None:
    with pytest.raises(InvalidSizeError, match="'G' in '1G' is not a unit; use B, KB, MB, GB, TB"):
        parse_size("1G")


@pytest.mark.parametrize(
    ("num_bytes", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1_000, "1 KB"),
        (589_824, "589.8 KB"),
        (999_960, "1 MB"),
        (1_500_000_000, "1.5 GB"),
        (-1_500_000_000, "-1.5 GB"),
        (5 * 10**15, "5000 TB"),
    ],
)
def test_a_size_is_written_in_the_unit_that_fits(num_bytes: int, text: str) -> None:
    assert format_size(num_bytes) == text
