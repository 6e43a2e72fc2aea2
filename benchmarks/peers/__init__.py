"""The peers that the service is compared with: one small file each, written as its documentation recommends."""
