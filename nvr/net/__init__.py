"""Accepting connections: what every listener of the daemon shares."""
