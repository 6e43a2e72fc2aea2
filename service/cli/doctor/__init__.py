"""`focal-loss doctor`: what this machine has for the service, and what is wrong with it."""
