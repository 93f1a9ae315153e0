"""An ONVIF replay client of GStreamer elements for H.264 and L16; runs on the system's Python, which has gi.

    /usr/bin/python3 gst_times_client.py URI tcp|udp

Plays without rate control until all pads have ended, and prints for each access unit the clock rate of its pad, its
first two bytes and its time in nanoseconds, in the order of time.
"""

from __future__ import annotations

import os
import sys

import gi

gi.require_version("Gst", "1.0")
from gi.repository import GLib, Gst  # noqa: E402

DEADLINE_MS = 30_000


PROTOCOLS = {"tcp": 4, "udp": 1}
DEPAY = {"audio": "rtpL16depay", "video": "rtph264depay ! video/x-h264,stream-format=byte-stream,alignment=au"}


def main(uri: str, protocol: str) -> int:
    Gst.init(None)
    loop = GLib.MainLoop()
    pipeline = Gst.Pipeline.new()
    source = Gst.ElementFactory.make("rtspsrc")
    for name, value in (("location", uri), ("onvif-mode", True), ("onvif-rate-control", False)):
        source.set_property(name, value)
    source.set_property("protocols", PROTOCOLS[protocol])
    source.set_property("buffer-mode", 0)
    pipeline.add(source)
    found: list[tuple[int, int, int]] = []
    ended: list[bool] = []

    def on_pad(_: object, pad: Gst.Pad) -> None:
        caps = pad.get_current_caps().get_structure(0)
        rate, depay = caps.get_value("clock-rate"), DEPAY[caps.get_value("media")]
        chain = Gst.parse_bin_from_description(
            f"rtponvifparse ! {depay} ! appsink name=out sync=false emit-signals=true", True
        )
        pipeline.add(chain)

        def on_sample(sink: Gst.Element) -> Gst.FlowReturn:
            buffer = sink.emit("pull-sample").get_buffer()
            data = buffer.extract_dup(0, buffer.get_size())
            found.append((buffer.pts, rate, int.from_bytes(data[:2], "big")))
            return Gst.FlowReturn.OK

        chain.get_by_name("out").connect("new-sample", on_sample)
        chain.sync_state_with_parent()
        pad.link(chain.get_static_pad("sink"))

    def on_end(_: object, message: Gst.Message) -> None:
        if message.type == Gst.MessageType.ERROR:
            print(message.parse_error(), file=sys.stderr, flush=True)
        ended.append(message.type == Gst.MessageType.EOS)
        loop.quit()

    source.connect("pad-added", on_pad)
    bus = pipeline.get_bus()
    bus.add_signal_watch()
    bus.connect("message::error", on_end)
    bus.connect("message::eos", on_end)
    GLib.timeout_add(DEADLINE_MS, loop.quit)
    pipeline.set_state(Gst.State.PLAYING)
    loop.run()
    for pts, rate, number in sorted(found):
        print(rate, number, pts)
    return 0 if ended == [True] else 1


status = main(sys.argv[1], sys.argv[2])
sys.stdout.flush()
os._exit(status)  # the change to NULL may hang in GStreamer 1.22
