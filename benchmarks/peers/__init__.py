"""What the service is measured beside: one small file per peer, written as its documentation tells."""
