"""Every knob of a run, and how a run file becomes one tree."""
