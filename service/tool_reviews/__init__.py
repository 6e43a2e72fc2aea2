"""Reviews from annotations that people make in labelling tools."""
