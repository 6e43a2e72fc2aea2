"""Focal loss as a service: which examples hurt a model most, and why.

Holds the version and nothing else: a re-export would load torch into the client.
"""

__version__ = "0.1.0"
