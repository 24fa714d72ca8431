"""From a record to a model input: who is at risk, what was known then, and the numbers a model reads. Pure."""
