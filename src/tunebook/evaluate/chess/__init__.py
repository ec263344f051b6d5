"""Legal moves, puzzles and games of a model that writes chess.

Everything here needs python-chess, which is GPL and optional: call `require_chess` of
`tunebook.data.chess.library` before anything of this package is imported.
"""
