"""Users, roles, credentials at rest, Digest authentication."""
