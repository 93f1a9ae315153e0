"""The peer of `benchmarks.viewers`: gst-rtsp-server with one movie. Runs under the python3 that has gi, not under ours.

    python3 _gst_server.py MOVIE

Each client gets a pipeline of its own, which reads the file and sends it at its pace. Prints the port, then serves
until stdin closes.
"""

import sys
import threading

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

PLAIN = "capssetter caps=video/x-h264,stream-format=avc"
"""The payloader takes avc1 and not avc3, though it would do the same; h264parse would cost the peer more."""


def main():
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service("0")
    server.set_backlog(512)
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(f"( filesrc location={sys.argv[1]} ! qtdemux ! {PLAIN} ! rtph264pay name=pay0 pt=96 mtu=1412 )")
    server.get_mount_points().add_factory("/movie", factory)
    server.attach(None)
    loop = GLib.MainLoop()
    threading.Thread(target=lambda: (sys.stdin.read(), loop.quit()), daemon=True).start()
    print(server.get_bound_port(), flush=True)
    loop.run()


main()
