"""RTSP/1.0 (RFC 2326) without I/O: messages in message.py, one header or family of headers in each other file.

The client in ingest/ and the server in replay/ use the same code.
"""
