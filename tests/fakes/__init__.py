"""What only tests use: builders, wires and processes that a user would never run."""
