"""The command line: one verb, one module; nothing heavy is imported before a verb needs it."""
