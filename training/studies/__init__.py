"""Evidence beside the shipped model: what the engine does on data that may not, or should not, train it."""
