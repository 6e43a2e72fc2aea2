"""Running the app under uvicorn."""
