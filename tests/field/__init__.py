"""Servers and clients that nobody here wrote, bare and instrumented: ``make field``."""
