"""Intervals, tests and verdicts from per-item rows; see docs/scores.md for every formula.

No function takes an average. scipy does the statistics; it takes long to import, so commands that
only read a book import this package when they compute.
"""
