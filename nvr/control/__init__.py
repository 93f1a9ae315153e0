"""Recording control and receivers: the life cycle of the objects that clients configure."""
