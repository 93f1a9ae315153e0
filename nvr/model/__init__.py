"""Pure rules and value objects: no I/O, no third-party import, no clock."""
