"""Questions, answers and scores of trained weights."""
