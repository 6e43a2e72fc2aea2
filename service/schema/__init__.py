"""Types that server, client and command line share; imports neither torch nor fastapi."""
