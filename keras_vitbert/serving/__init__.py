"""A trained model for users: as a SavedModel that a server runs, and at the command line."""
