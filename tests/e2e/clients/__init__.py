"""Programs that drive a recorder through other people's client libraries, each in a process of its own."""
