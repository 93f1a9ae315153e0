"""The RTSP server: replay of footage and live mounts."""
