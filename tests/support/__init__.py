"""Servers, a proxy that fails on demand, a terminal, and what else several test modules share."""
