"""Numbers out of many measurements. Knows no server."""

from collections.abc import Sequence
from math import ceil, sqrt
from statistics import mean, variance
from typing import NamedTuple

Z95 = 1.959964
"""Standard deviations that 95 % of a normal distribution lie within, on both sides together."""


class Area(NamedTuple):
    """How well one of two kinds of measurements is told from the other, with 95 % confidence."""

    value: float
    low: float
    high: float


def quantile(values: Sequence[float], share: float) -> float | None:
    """The smallest value that such a share of all does not exceed; None of none."""
    found = sorted(values)
    return found[max(0, ceil(share * len(found)) - 1)] if found else None


def area(low: Sequence[float], high: Sequence[float]) -> Area:
    """The area under the ROC curve of telling the `low` ones by being lower: the chance that one
    of them is lower than one of the `high` ones, where a tie counts half.

    The interval is DeLong's (Biometrics 44, 1988). Each side has at least two values.
    """
    wins = [[(a < b) + 0.5 * (a == b) for b in high] for a in low]
    of_low = [mean(row) for row in wins]
    of_high = [mean(column) for column in zip(*wins, strict=True)]
    value = mean(of_low)
    spread = Z95 * sqrt(variance(of_low) / len(low) + variance(of_high) / len(high))
    return Area(value, max(0.0, value - spread), min(1.0, value + spread))


def slope(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Of the line with the least squares through the points, and its standard error."""
    middle_x, middle_y = mean(x for x, _ in points), mean(y for _, y in points)
    width = sum((x - middle_x) ** 2 for x, _ in points)
    found = sum((x - middle_x) * (y - middle_y) for x, y in points) / width
    left = sum((y - middle_y - found * (x - middle_x)) ** 2 for x, y in points)
    return found, sqrt(left / max(1, len(points) - 2) / width)
