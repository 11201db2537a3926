"""Faults drawn at random against a station under load, and the account of what became of every part."""
