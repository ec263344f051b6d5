"""Numbers as people write them, the same in the terminal, on the page and in Markdown."""

from __future__ import annotations

import math


def format_bytes(n_bytes: float) -> str:
    """Write a size with binary units and three significant digits, such as `1.35 GiB`."""
    size = float(n_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1024:
            # Four digits just below the next unit: 1e+03 MiB would be no size.
            whole = unit == "B" or abs(size) >= 999.5
            return f"{size:.0f} {unit}" if whole else f"{size:.3g} {unit}"
        size /= 1024
    return f"{size:.3g} TiB"


def format_seconds(seconds: float) -> str:
    """Write a duration as `8.4 s`, `3 min 05 s`, `2 h 07 min` or `3 d 04 h`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes:02d} min"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours:02d} h"


def format_count(n: int) -> str:
    """Write a count with thousands separated by commas, as `354,823,168`."""
    return f"{n:,}"


def format_number(value: float | None, digits: int = 4) -> str:
    """Write a measured number; unknown is an empty cell, and NaN is shown as NaN."""
    if value is None:
        return ""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    if value != 0 and (abs(value) < 1e-3 or abs(value) >= 1e6):
        return f"{value:.{max(digits - 2, 1)}e}"
    return f"{value:.{digits}g}" if abs(value) >= 1000 else f"{value:.{digits - 1}f}"


def format_percent(fraction: float) -> str:
    """Write a share 0..1 as percent, keeping very small shares visible."""
    percent = fraction * 100
    if 0 < percent < 0.1:
        return "<0.1 %"
    return f"{percent:.3g} %"


def format_error(fraction: float) -> str:
    """Write a deviation as percent with its sign."""
    return f"{fraction * 100:+.1f} %"


def shorten(text: str, most: int = 80) -> str:
    """Give a text as an error repeats it: whole, or its beginning, `most` characters in all."""
    return text if len(text) <= most else f"{text[: most - 3]}..."
