"""The walk of one patient, and what it needs from the rooms around it."""
