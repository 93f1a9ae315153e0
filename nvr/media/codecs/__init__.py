"""One file a codec: configuration, depacketizer and packetizer side by side."""
