"""What a user can do, one verb a module; the only place that writes results down."""
