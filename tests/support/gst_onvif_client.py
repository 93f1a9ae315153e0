"""An ONVIF replay client of GStreamer elements; runs on the system's Python, which has gi.

    /usr/bin/python3 gst_onvif_client.py URI PROTOCOLS RATE-CONTROL RATE START STOP FRAMES LAST [RATE START ...]

PROTOCOLS as rtspsrc names them: `tcp`, `udp`, `http+tcp`. A name and a password in the URI are for Digest. Plays, and
with the first picture begins to seek; each group of five is one seek while playing. START and STOP are UTC nanoseconds,
STOP may be `-`; FRAMES is `all`, `key` or `key/MILLISECONDS`. When the picture LAST has come the next seek is made.
Prints `seek` for each, and for each decoded picture the number that is burnt into it, `?` where none can be read.
"""

from __future__ import annotations

import os
import sys
from urllib.parse import unquote, urlsplit

import gi

gi.require_version("Gst", "1.0")
from gi.repository import GLib, Gst  # noqa: E402

NTP_OFFSET_NS = 2_208_988_800 * 10**9
BITS = 24
DEADLINE_MS = 35_000
VIDEO = (
    "rtponvifparse ! rtph264depay ! video/x-h264,alignment=nal ! h264parse ! avdec_h264 max-threads=1 ! "
    "video/x-raw,format=I420 ! appsink name=out sync=false emit-signals=true"
)
"""With whole access units h264parse holds one back, and loses it at a discontinuity; without it the element clips the
first picture in reverse."""


def number_in(luma: bytes, stride: int, width: int) -> str:
    cell = width // (BITS + 4)
    row = (cell // 2) * stride + cell // 2
    values = [luma[row + i * cell] for i in range(BITS + 2)]
    if not (values[0] > 160 and values[1] < 96):
        return "?"
    return str(int("".join("1" if v > 128 else "0" for v in values[2:]), 2))


class Client:
    def __init__(self, uri: str, protocols: str, rate_control: str, seeks: list[list[str]]) -> None:
        self.loop = GLib.MainLoop()
        self.seeks = seeks
        self.last: str | None = None
        self.begun = False
        self.failed = True
        self.pipeline = Gst.Pipeline.new()
        source = Gst.ElementFactory.make("rtspsrc")
        parts = urlsplit(uri)
        source.set_property("location", parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl())
        if parts.username is not None:
            source.set_property("user-id", unquote(parts.username))
            source.set_property("user-pw", unquote(parts.password or ""))
        Gst.util_set_object_arg(source, "protocols", protocols)
        source.set_property("tls-validation-flags", 0)
        source.set_property("onvif-mode", True)
        source.set_property("onvif-rate-control", rate_control == "yes")
        source.set_property("buffer-mode", 0)
        source.set_property("latency", 200)
        source.connect("pad-added", self.on_pad)
        self.pipeline.add(source)
        bus = self.pipeline.get_bus()
        bus.add_signal_watch()
        bus.connect("message::error", self.on_error)

    def on_pad(self, _: object, pad: Gst.Pad) -> None:
        video = pad.get_current_caps().get_structure(0).get_value("media") == "video"
        chain = Gst.parse_bin_from_description(VIDEO if video else "fakesink sync=false", True)
        self.pipeline.add(chain)
        if video:
            chain.get_by_name("out").connect("new-sample", self.on_sample)
        chain.sync_state_with_parent()
        pad.link(chain.get_static_pad("sink"))

    def on_sample(self, sink: Gst.Element) -> Gst.FlowReturn:
        sample = sink.emit("pull-sample")
        width = sample.get_caps().get_structure(0).get_value("width")
        data = sample.get_buffer().extract_dup(0, sample.get_buffer().get_size())
        number = number_in(data, (width + 3) // 4 * 4, width)
        GLib.idle_add(self.on_number, number)
        return Gst.FlowReturn.OK

    def on_number(self, number: str) -> bool:
        print(number, flush=True)
        if not self.begun or number == self.last:
            self.begun, self.last = True, None
            self.seek()
        return False

    def seek(self) -> None:
        if not self.seeks:
            self.failed = False
            self.loop.quit()
            return
        rate, start, stop, frames, self.last = self.seeks.pop(0)
        flags = Gst.SeekFlags.FLUSH
        if frames.startswith("key"):
            flags |= Gst.SeekFlags.TRICKMODE_KEY_UNITS
        low, high = (start, stop) if float(rate) > 0 else (stop, start)
        types = [Gst.SeekType.NONE if time == "-" else Gst.SeekType.SET for time in (low, high)]
        low_ns, high_ns = (0 if time == "-" else int(time) + NTP_OFFSET_NS for time in (low, high))
        event = Gst.Event.new_seek(float(rate), Gst.Format.TIME, flags, types[0], low_ns, types[1], high_ns)
        if "/" in frames:
            event.set_seek_trickmode_interval(int(frames.partition("/")[2]) * Gst.MSECOND)
        print("seek" if self.pipeline.send_event(event) else "refused", flush=True)

    def on_error(self, _: object, message: Gst.Message) -> None:
        error, debug = message.parse_error()
        print("error", error.message, debug, flush=True)
        self.loop.quit()

    def run(self) -> int:
        self.pipeline.set_state(Gst.State.PLAYING)
        GLib.timeout_add(DEADLINE_MS, self.loop.quit)
        self.loop.run()
        return 1 if self.failed else 0


if __name__ == "__main__":
    Gst.init(None)
    given = sys.argv[4:]
    status = Client(*sys.argv[1:4], [given[i : i + 5] for i in range(0, len(given), 5)]).run()
    sys.stdout.flush()
    os._exit(status)  # the change of rtspsrc to NULL may hang
