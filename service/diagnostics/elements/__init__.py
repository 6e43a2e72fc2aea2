"""Label issues of structured examples: of labels, tokens and pixels."""
