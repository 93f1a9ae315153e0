"""Who may do what: users and roles, their secrets at rest, Digest and UsernameToken. No I/O but the key file."""
