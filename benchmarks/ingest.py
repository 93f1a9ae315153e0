"""What it costs to record: CPU and memory of the recorder and of `ffmpeg -c copy`, fed by the same camera.

    python -m benchmarks.ingest [--streams 1 8 32] [--seconds 20] [--without-ffmpeg]

The camera is a process of its own that replays pre-packetized H.264 (FU-A, 4 Mbit/s, 25 pictures a second, a key frame
every 2 s) at its pace, interleaved on TCP. The recorder is `nvr serve`, the whole daemon, with each camera added as by
`nvr camera add`. ffmpeg remuxes each stream into a fragmented MP4, one process a stream, as people run it. Both are
read from /proc over the same number of seconds, after everything is connected; bytes are those that the camera sent.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from nvr.operations import ask_daemon

TICK_S = 1 / os.sysconf("SC_CLK_TCK")
PICTURES_A_SECOND = 25
KEY_FRAME_DISTANCE = 50
WARM_UP_S = 6
"""Connecting, the first sender report, imports."""


# -- the camera --------------------------------------------------------------------------------------------------------


def encode_group() -> tuple[bytes, list[bytes]]:
    """Parameter sets and units, in sample form, of one group of pictures at about 4 Mbit/s."""
    import random
    from fractions import Fraction

    import av

    from tests.support.rtp_streams import nals_of_byte_stream, sample_form

    width, height = 640, 360
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
    encoder.time_base, encoder.framerate = Fraction(1, PICTURES_A_SECOND), Fraction(PICTURES_A_SECOND, 1)
    encoder.options = {
        "preset": "ultrafast",
        "tune": "zerolatency",
        "x264-params": f"keyint={KEY_FRAME_DISTANCE}:bitrate=4000:vbv-maxrate=4000:vbv-bufsize=1000:nal-hrd=cbr"
        ":slices=1:threads=1:force-cfr=1",
    }
    noise = random.Random(1)
    packets = []
    for i in range(KEY_FRAME_DISTANCE):
        frame = av.VideoFrame(width, height, "yuv420p")
        for plane in frame.planes:
            plane.update(noise.randbytes(plane.buffer_size // 4) * 4)
        frame.pts = i
        packets += encoder.encode(frame)
    packets += encoder.encode(None)
    nals = nals_of_byte_stream(bytes(packets[0]))
    sets = [n for n in nals if n[0] & 31 in (7, 8)]
    return sample_form(*sets), [sample_form(*nals_of_byte_stream(bytes(p))) for p in packets]


def packetize(seconds: int) -> tuple[str, list[bytes], int]:
    """fmtp, the interleaved frames of each picture, and the number of RTP packets in all."""
    import base64

    from nvr.media import codecs
    from nvr.media.rtp import HEADER
    from tests.support.rtp_streams import nals_of

    sets, units = encode_group()
    sprop = ",".join(base64.b64encode(n).decode() for n in nals_of(sets))
    configuration = codecs.depacketizer_for("H264", 90_000, None, {"sprop-parameter-sets": sprop}).configuration
    assert configuration is not None
    packetizer = codecs.packetizer_for(configuration, 1400)
    pictures, sequence = [], 0
    for n in range(seconds * PICTURES_A_SECOND):
        parts = packetizer.packetize(memoryview(units[n % len(units)]))
        frames = []
        for i, (prefix, part) in enumerate(parts):
            marker = 0x80 if i == len(parts) - 1 else 0
            header = HEADER.pack(0x80, marker | 96, sequence & 0xFFFF, n * 3600 & 0xFFFFFFFF, 0x1234)
            packet = header + prefix + part
            frames.append(b"$\0" + len(packet).to_bytes(2, "big") + packet)
            sequence += 1
        pictures.append(b"".join(frames))
    return f"packetization-mode=1;sprop-parameter-sets={sprop}", pictures, sequence


async def camera(seconds: int) -> None:
    """Serve until killed. Prints the port, the bytes and the packets of a second, then READY."""
    from nvr.media.rtcp import SenderReport
    from nvr.media.rtsp.headers import Headers
    from nvr.media.rtsp.message import MessageParser, Request, Response
    from nvr.model.time import ntp_from_utc

    fmtp, pictures, packets = packetize(seconds)
    lines = ["v=0", "o=- 1 1 IN IP4 0.0.0.0", "s=-", "t=0 0", "m=video 0 RTP/AVP 96", "a=rtpmap:96 H264/90000"]
    sdp = "\r\n".join((*lines, f"a=fmtp:96 {fmtp}", "a=control:v", ""))

    async def play(writer: asyncio.StreamWriter) -> None:
        begin, wall = time.monotonic(), time.time_ns()
        for n, data in enumerate(pictures):
            if n % 125 == 0:
                utc = wall + n * 40_000_000
                report = bytes(SenderReport(0x1234, ntp_from_utc(utc), n * 3600 & 0xFFFFFFFF))
                writer.write(b"$\1" + len(report).to_bytes(2, "big") + report)
            writer.write(data)
            delay = begin + (n + 1) / PICTURES_A_SECOND - time.monotonic()
            if delay > 0:
                await asyncio.sleep(delay)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        parser, player = MessageParser(), None
        try:
            while data := await reader.read(65_536):
                parser.feed(data)
                for event in parser.events():
                    if not isinstance(event, Request):
                        continue
                    headers = Headers([("CSeq", str(event.cseq)), ("Session", "1;timeout=60")])
                    body = b""
                    if event.method == "OPTIONS":
                        headers.add("Public", "OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN, GET_PARAMETER")
                    elif event.method == "DESCRIBE":
                        headers.add("Content-Type", "application/sdp")
                        body = sdp.encode()
                    elif event.method == "SETUP":
                        headers.add("Transport", "RTP/AVP/TCP;unicast;interleaved=0-1")
                    writer.write(bytes(Response(200, headers, body)))
                    if event.method == "PLAY":
                        player = asyncio.get_running_loop().create_task(play(writer))
        except ConnectionError:
            pass
        finally:
            if player is not None:
                player.cancel()
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    size = sum(map(len, pictures))
    print(server.sockets[0].getsockname()[1], size // seconds, packets // seconds, flush=True)
    await server.serve_forever()


# -- the recorder ------------------------------------------------------------------------------------------------------


def metrics(http: str) -> dict[str, float]:
    """The daemon's counters, summed over their labels."""
    sums: dict[str, float] = {}
    with urllib.request.urlopen(f"{http}/metrics", timeout=10) as answer:
        for line in answer.read().decode().splitlines():
            if not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                name = name.partition("{")[0]
                sums[name] = sums.get(name, 0.0) + float(value)
    return sums


# -- measuring ---------------------------------------------------------------------------------------------------------


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * TICK_S


def peak_memory(pid: int) -> float:
    """Resident set, its maximum, in MB."""
    line = next(x for x in Path(f"/proc/{pid}/status").read_text().splitlines() if x.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def over(pids: list[int], seconds: float) -> tuple[float, float]:
    """CPU seconds used by these processes in so many seconds, and the sum of their peak memory."""
    time.sleep(WARM_UP_S)
    before = sum(map(cpu_seconds, pids))
    time.sleep(seconds)
    return sum(map(cpu_seconds, pids)) - before, sum(map(peak_memory, pids))


def start_camera(seconds: int) -> tuple[subprocess.Popen[str], int, int, int]:
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.ingest", "--camera", str(seconds)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    port, size, packets = map(int, process.stdout.readline().split())
    return process, port, size, packets


def measure_recorder(port: int, streams: int, seconds: float, directory: Path) -> tuple[float, float, str]:
    """The whole daemon, with its listeners, as an operator runs it; each camera is added as by `nvr camera add`."""
    command = [sys.executable, "-m", "nvr", "serve", "--data", str(directory)]
    command += ["--http", "127.0.0.1:0", "--rtsp", "127.0.0.1:0"]
    environment = {**os.environ, "NVR_ADMIN_PASSWORD": "benchmark"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment)
    try:
        assert process.stdout is not None
        http = next(word for word in process.stdout.readline().split() if word.startswith("http"))
        for n in range(streams):
            ask_daemon(directory, "camera add", {"name": f"camera {n}", "uri": f"rtsp://127.0.0.1:{port}/{n}"})
        cpu, memory = over([process.pid], seconds)
        counted = metrics(http)
        process.terminate()
        process.wait(30)
    finally:
        process.kill()
        process.wait()
    names = ("lost", "dropped_units", "fragments")
    return cpu, memory, " ".join(f"{name} {counted[f'nvr_receiver_{name}_total']:.0f}" for name in names)


def measure_ffmpeg(port: int, streams: int, seconds: float, directory: Path) -> tuple[float, float]:
    flags = "frag_keyframe+empty_moov+default_base_moof"
    processes = []
    try:
        for n in range(streams):
            command = ["ffmpeg", "-nostdin", "-loglevel", "quiet", "-rtsp_transport", "tcp"]
            command += ["-i", f"rtsp://127.0.0.1:{port}/{n}", "-c", "copy", "-f", "mp4", "-movflags", flags]
            processes.append(subprocess.Popen([*command, "-y", str(directory / f"{n}.mp4")]))
        result = over([p.pid for p in processes], seconds)
        small = [n for n in range(streams) if (directory / f"{n}.mp4").stat().st_size < 100_000]
        if small:
            raise SystemExit(f"ffmpeg has written nothing for stream {small[0]}")
        return result
    finally:
        for p in processes:
            p.kill()
        for p in processes:
            p.wait()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--without-ffmpeg", action="store_true")
    parser.add_argument("--camera", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.camera:
        asyncio.run(camera(arguments.camera))
        return 0
    seconds = arguments.seconds
    with_ffmpeg = not arguments.without_ffmpeg and shutil.which("ffmpeg") is not None
    process, port, size, packets = start_camera(seconds + WARM_UP_S + 15)
    print(f"{size * 8 / 1e6:.2f} Mbit/s and {packets} packets/s a stream, {seconds} s; load {os.getloadavg()[0]:.1f}")
    print("streams  recorder              MB     ffmpeg -c copy        MB     ratio of CPU")
    try:
        for streams in arguments.streams:
            gigabytes, count = size * streams * seconds / 1e9, packets * streams * seconds
            with tempfile.TemporaryDirectory() as directory:
                cpu, memory, told = measure_recorder(port, streams, seconds, Path(directory))
            line = f"{streams:7}  {cpu / gigabytes:6.2f} s/GB {cpu / count * 1e6:5.1f} us/p {memory:6.0f}"
            if with_ffmpeg:
                with tempfile.TemporaryDirectory() as directory:
                    peer, peer_memory = measure_ffmpeg(port, streams, seconds, Path(directory))
                line += f"   {peer / gigabytes:6.2f} s/GB {peer / count * 1e6:5.1f} us/p {peer_memory:6.0f}"
                line += f"   {cpu / peer:.2f}" if peer else "   -"
            print(f"{line}   ({told})", flush=True)
    finally:
        process.kill()
        process.wait()
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"all processes together: {usage.ru_utime + usage.ru_stime:.0f} s of CPU")
    return 0


if __name__ == "__main__":
    sys.exit(main())
