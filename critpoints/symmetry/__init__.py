"""Symmetries of two-layer networks and the critical points that they induce."""
