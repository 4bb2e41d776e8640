"""Compares outrigger-proxy with its peers, side by side, on one machine. See README.md in the folder above."""
