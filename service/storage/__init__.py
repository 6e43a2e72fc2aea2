"""The data directory: durable files in a local folder or an object store, their merging, and what is cached of them."""
