"""The HTTP server: uvicorn, with bounds on what its readers hold."""
