"""Parts of file and wire formats that server, client and command line share; imports no torch."""
