"""A trained model for other runtimes than TensorFlow: graphs, tables and a page."""
