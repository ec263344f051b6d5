"""Run files of other tools, as run files of tunebook. One file for each tool."""
