# Generated from service/client/_async by scripts/generate_sync_client.py: do not edit.
"""The synchronous client."""
