"""Types of the JSON replies, shared by the producers, the routes, the client and the command line."""
