"""From the RTSP source to fragments in the storage engine."""
