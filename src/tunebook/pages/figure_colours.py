"""The colours of figures, each with what stands for it on a dark screen; as in the book's pages."""

from __future__ import annotations

GROUND, INK, FAINT, RULE = "#ffffff", "#1c2024", "#5b6470", "#dcdfe3"
TRAIN, HELD_OUT, BAD = "#1f6fb4", "#c2571a", "#a1251b"
DARK = {
    GROUND: "#1b1f23",
    INK: "#e6e8ea",
    FAINT: "#a3adb8",
    RULE: "#343b42",
    BAD: "#ff9d92",
    TRAIN: "#6db3f2",
    HELD_OUT: "#f29a5c",
    "#2c8a4b": "#6bd08e",
    "#8c4bb0": "#c79ae6",
    "#b0304f": "#f2849d",
    "#5a6b7b": "#a9b8c6",
    "#97790b": "#e0c352",
    "#0b8a8f": "#5fd0d4",
    "#d0468d": "#f59ac8",
    "#6b5a2e": "#cdbb86",
}
SERIES = tuple(DARK)[5:]


def dark_style(within: str = "") -> str:
    """Give the CSS that turns the colours of figures dark where the screen is."""
    rules = "".join(
        f'{within}[style*="{part}: {light}"]{{{part}:{dark} !important}}'
        for light, dark in DARK.items()
        for part in ("fill", "stroke")
    )
    return f"@media screen and (prefers-color-scheme: dark){{{rules}}}"
