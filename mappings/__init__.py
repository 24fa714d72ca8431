"""Mapping tables: data only, for reviewers who do not program."""
