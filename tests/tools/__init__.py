"""The real tools that people use with the service. `make tools` installs them; without a tool its tests skip."""
