"""Encoder definitions, one file a family."""
