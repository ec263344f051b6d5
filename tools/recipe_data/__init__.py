"""The data of the recipes' twins, made from rules: nothing in it is quoted."""
