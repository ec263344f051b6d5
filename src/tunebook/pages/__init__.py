"""Stored records as Markdown: the page of a run, the index page and the run table."""
