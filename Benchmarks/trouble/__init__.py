"""Hosts in trouble behind a proxy, and what their callers notice. See README.md in the folder above."""
