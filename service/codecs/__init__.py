"""Wire formats: which there are, and which one reads a request and writes its reply.

Every format decodes to the same `LossRequest` and encodes the same `LossResult`.
"""
