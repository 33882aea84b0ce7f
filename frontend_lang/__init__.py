"""Ramet: write language-model programs, run them on shared key/value blocks."""
