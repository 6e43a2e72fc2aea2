"""The commands of `focal-loss` that speak with a service about runs; each parses, asks, and prints."""
