"""Matplotlib figures; every function returns a Figure."""
