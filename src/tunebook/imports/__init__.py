"""Logs and tables that other tools wrote, read into the records of runs."""
