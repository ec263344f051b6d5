"""Write the data of the recipes' twins again: `python tools/make_recipe_data.py`.

Every file is made from rules and a fixed seed, so the same command writes the same bytes.
"""

from __future__ import annotations

from pathlib import Path

from recipe_data import alpaca, chess, cosmosage, pygmalion, quotes

RECIPES = Path(__file__).parents[1] / "src/tunebook/embedded/recipes"


def main() -> None:
    cosmosage.make(RECIPES / "cosmosage/twin/data")
    quotes.make(RECIPES / "quotes/twin/data")
    alpaca.make(RECIPES / "alpaca/twin")
    chess.make(RECIPES / "chess/twin/data")
    pygmalion.make(RECIPES / "pygmalion/twin/data")


if __name__ == "__main__":
    main()
