"""The command `focal-loss doctor`: an examination of this machine."""
