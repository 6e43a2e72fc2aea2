"""ASGI middleware: request ids, logs, metrics, errors, authentication, places."""
