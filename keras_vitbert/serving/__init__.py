"""A trained model in use: as a SavedModel for a server, and at the command line."""
