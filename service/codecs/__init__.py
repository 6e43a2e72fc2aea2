"""Wire formats, and the choice between them by media type.

Every format decodes to the same `LossRequest` and encodes the same `LossResult`.
"""
