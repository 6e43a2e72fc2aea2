"""A run's rows, or a queue's, as the files that labelling tools and tables read."""
