"""Vocabulary that server, client and commands share; imports neither torch nor fastapi."""
