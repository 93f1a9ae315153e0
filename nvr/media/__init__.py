"""Sans-I/O protocol code: RTP, RTCP, SDP, RTSP messages, codecs and the ISO base media file format."""
