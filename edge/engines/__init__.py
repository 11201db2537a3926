"""Executors of a model package. One file an executor, loaded only when asked for."""
