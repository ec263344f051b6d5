"""Detectors: pure functions from step records to verdicts."""
