"""What a run will need and whether it can work: counts, memory, time, disk and checks."""
