"""`python -m service`: the command `focal-loss`."""

from service.cli import main

main()
