"""The HTML report of `focal-loss diagnose --html`."""
