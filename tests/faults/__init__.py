"""Killing the real service by plan, and what must hold afterwards."""
