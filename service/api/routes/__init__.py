"""The routes, one file for each resource; no route imports another."""
