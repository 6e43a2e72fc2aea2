"""`python -m service`: the command `focal-loss`."""

from service.cli.main import main

main()
