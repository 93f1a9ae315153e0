"""WS-Discovery: how clients on the same network find the recorder."""
