"""A camera that nobody here wrote: GStreamer's gst-rtsp-server. Runs under the python3 that has gi, not under ours.

    python3 gst_camera.py DUMP VIDEO[+AUDIO][,VIDEO[+AUDIO] ...] [bframes] [file=MOVIE]

Prints an RTSP URI for each pair of codecs, then serves until stdin closes. Whatever enters a payloader is appended to
DUMP, so that a test can compare what the camera sent with what was recorded: per access unit one record `>BqI` (stream,
UTC nanoseconds of presentation, length) and the bytes. Stream 0 is the video of the first pair, 1 its audio, 2 the
video of the second pair ...
"""

import struct
import sys
import threading
import time
from pathlib import Path

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

FPS = 25
ENCODERS = {
    "h264": "x264enc name=encoder tune={tune} speed-preset=ultrafast bitrate=600 key-int-max=25 {b}"
    " ! video/x-h264,profile={profile} ! h264parse ! video/x-h264,stream-format=byte-stream,alignment=au"
    " ! rtph264pay name=pay0 pt=96 config-interval=-1",
    "h265": "x265enc name=encoder speed-preset=ultrafast tune=zerolatency bitrate=600 key-int-max=25"
    " ! h265parse ! video/x-h265,stream-format=byte-stream,alignment=au"
    " ! rtph265pay name=pay0 pt=96 config-interval=-1",
    "jpeg": "jpegenc quality=70 ! rtpjpegpay name=pay0 pt=26",
}
FILE = "filesrc location={file} ! qtdemux ! mpeg4videoparse ! rtpmp4vpay name=pay0 pt=96"
"""For `mpeg4`, which GStreamer 1.22's own encoder gives impossible times: pictures of a movie, `file=MOVIE`."""
SIZES = {"large": (2560, 64)}
"""Of variants, written behind a hyphen: `jpeg-large`."""
FORMATS = {"422": "Y42B"}
SOUND = {
    "aac": "audio/x-raw,rate=48000,channels=1 ! audioconvert ! avenc_aac bitrate=64000 ! aacparse ! rtpmp4gpay",
    "opus": "audio/x-raw,rate=48000,channels=2 ! audioconvert ! opusenc ! rtpopuspay",
    "l16": "audio/x-raw,rate=44100,channels=2 ! audioconvert ! rtpL16pay",
    "g726": "audio/x-raw,rate=8000,channels=1 ! audioconvert ! avenc_g726 bitrate=32000 ! rtpg726pay force-aal2=false",
}


def launch_line(codecs, b_frames, file):
    video, _, audio = codecs.partition("+")
    codec, _, variant = video.partition("-")
    sound = f" audiotestsrc is-live=true wave=ticks samplesperbuffer=1024 ! {SOUND[audio or 'aac']} name=pay1 pt=97 )"
    if codec == "mpeg4":
        return "( " + FILE.format(file=file) + sound
    width, height = SIZES.get(variant, (320, 240))
    encoder = ENCODERS[codec].format(
        tune="0" if b_frames else "zerolatency",
        profile="main" if b_frames else "baseline",
        b="bframes=2 b-adapt=false rc-lookahead=5 sliced-threads=true" if b_frames else "",
    )
    return (
        "( videotestsrc is-live=true pattern=smpte horizontal-speed=3"
        f" ! video/x-raw,width={width},height={height},framerate={FPS}/1"
        f" ! timeoverlay ! videoconvert ! video/x-raw,format={FORMATS.get(variant, 'I420')} ! {encoder}" + sound
    )


def report_capture_times(pipeline):
    for element in pipeline.iterate_recurse() or ():
        if element.get_factory() and element.get_factory().get_name() == "rtpbin":
            element.set_property("rtcp-sync-send-time", False)


def main():
    dump_path, pairs = sys.argv[1], sys.argv[2].split(",")
    file = next((a.partition("=")[2] for a in sys.argv[3:] if a.startswith("file=")), "")
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service("0")
    dump = Path(dump_path).open("wb", buffering=0)  # noqa: SIM115  open as long as the process lives
    lock = threading.Lock()

    def watch(_factory, media, first):
        element = media.get_element()
        # By default the server reports when it sends a picture; cameras report when they have seen it.
        media.connect("prepared", lambda m: report_capture_times(m.get_element().get_parent()))

        def probe(pad, info, stream):
            buffer = info.get_buffer()
            clock = element.get_clock()
            segment = pad.get_sticky_event(Gst.EventType.SEGMENT, 0).parse_segment()
            # Some encoders give no time to a buffer of headers.
            running = segment.to_running_time(Gst.Format.TIME, buffer.pts)
            running = 0 if running == Gst.CLOCK_TIME_NONE else running
            wall_at_base = time.time_ns() - (clock.get_time() - element.get_base_time())
            ok, mapped = buffer.map(Gst.MapFlags.READ)
            assert ok
            data = bytes(mapped.data)
            buffer.unmap(mapped)
            with lock:
                dump.write(struct.pack(">BqI", stream, wall_at_base + running, len(data)) + data)
            return Gst.PadProbeReturn.OK

        for stream, name in enumerate(("pay0", "pay1"), first):
            pad = element.get_by_name(name).get_static_pad("sink")
            pad.add_probe(Gst.PadProbeType.BUFFER, probe, stream)

    for n, codecs in enumerate(pairs):
        factory = GstRtspServer.RTSPMediaFactory()
        factory.set_launch(launch_line(codecs, "bframes" in sys.argv[3:], file))
        factory.set_shared(True)
        factory.connect("media-configure", watch, 2 * n)
        server.get_mount_points().add_factory(f"/camera{n}", factory)
    server.attach(None)
    loop = GLib.MainLoop()
    threading.Thread(target=lambda: (sys.stdin.read(), loop.quit()), daemon=True).start()
    print(*(f"rtsp://127.0.0.1:{server.get_bound_port()}/camera{n}" for n in range(len(pairs))), flush=True)
    loop.run()


main()
