"""`focal-loss report`: one HTML file about a run."""
