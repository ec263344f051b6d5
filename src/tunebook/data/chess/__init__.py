"""Chess games as training data: legality, SAN, tasks and labels. Rules come from python-chess."""
