"""What it costs to record: CPU, memory and disk of the recorder and of `ffmpeg -c copy`, fed by the same camera.

    python -m benchmarks.ingest [--transport tcp udp] [--codec h264 h265] [--streams 1 8 32 128] [--seconds 20]
                                [--peer-streams 32] [--without-ffmpeg]

The camera is `benchmarks.replaying_camera`. The recorder is `nvr serve`, the whole daemon, with each camera added as by
`nvr camera add`. ffmpeg remuxes each stream into a fragmented MP4, one process a stream, as people run it; with more
streams than --peer-streams it is measured with that many, and compared by the byte. Both are read from /proc over the
same number of seconds, after everything is connected; bytes are those that the camera sent. `loop` is what the
99th percentile and the worst of the daemon's own probes of its event loop stay below, `written` what the kernel counts
as written to the disk per byte that the camera sent, and `a stream` the memory of each stream behind the first of the
same run.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.observed import LoopDelays, metrics
from nvr.operations.control_socket import ask_daemon

TICK_S = 1 / os.sysconf("SC_CLK_TCK")
WARM_UP_S = 6
"""The first sender report, imports."""
CONNECT_S = 25
"""How long all cameras together may take to be connected, on a busy machine."""
PROBE_S = 0.25
"""Between two looks at whether they are."""


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * TICK_S


def peak_memory(pid: int) -> float:
    """Resident set, its maximum, in MB."""
    line = next(x for x in Path(f"/proc/{pid}/status").read_text().splitlines() if x.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def written(pid: int) -> int:
    """Bytes that the process has made the kernel write to a disk; pages count whole."""
    line = next(x for x in Path(f"/proc/{pid}/io").read_text().splitlines() if x.startswith("write_bytes"))
    return int(line.split()[1])


def start_camera(seconds: int, codec: str = "h264") -> tuple[subprocess.Popen[str], int, int, int]:
    """The process, its port, and the bytes and packets of a second."""
    command = [sys.executable, "-m", "benchmarks.replaying_camera", str(seconds), codec]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    port, size, packets = map(int, process.stdout.readline().split())
    return process, port, size, packets


@dataclass
class Cost:
    """Of one process, or of all of one kind, over the measured seconds."""

    cpu_s: float
    memory_mb: float
    written: int = 0
    delays: LoopDelays | None = None
    told: str = ""


def measure_recorder(port: int, streams: int, seconds: float, transport: str, directory: Path) -> Cost:
    """The whole daemon, with its listeners, as an operator runs it; each camera is added as by `nvr camera add`."""
    command = [sys.executable, "-m", "nvr", "serve", "--data", str(directory)]
    command += ["--http", "127.0.0.1:0", "--rtsp", "127.0.0.1:0"]
    environment = {**os.environ, "NVR_ADMIN_PASSWORD": "benchmark"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment)
    try:
        assert process.stdout is not None
        http = next(word for word in process.stdout.readline().split() if word.startswith("http"))
        for n in range(streams):
            uri = f"rtsp://127.0.0.1:{port}/{n}"
            ask_daemon(directory, "camera add", {"name": f"camera {n}", "uri": uri, "transport": transport})
        deadline = time.monotonic() + CONNECT_S
        while (connected := metrics(http).get("nvr_receiver_connected", 0)) != streams:
            if time.monotonic() > deadline:
                raise SystemExit(f"only {connected:.0f} of {streams} cameras are connected")
            time.sleep(PROBE_S)
        time.sleep(WARM_UP_S)
        delays = LoopDelays.read(http)
        cpu, before = cpu_seconds(process.pid), written(process.pid)
        time.sleep(seconds)
        cpu = cpu_seconds(process.pid) - cpu
        told, wrote = metrics(http), written(process.pid) - before
        names = ("lost", "overruns", "reordered", "dropped_units", "fragments")
        text = " ".join(f"{name} {told[f'nvr_receiver_{name}_total']:.0f}" for name in names)
        refused = told["nvr_storage_refused_fragments_total"] + told["nvr_storage_lost_fragments_total"]
        cost = Cost(
            cpu, peak_memory(process.pid), wrote, LoopDelays.read(http).since(delays), f"{text} refused {refused:.0f}"
        )
        process.terminate()
        process.wait(60)
        return cost
    finally:
        process.kill()
        process.wait()


def measure_ffmpeg(port: int, streams: int, seconds: float, transport: str, directory: Path) -> Cost:
    flags = "frag_keyframe+empty_moov+default_base_moof"
    processes = []
    try:
        for n in range(streams):
            command = ["ffmpeg", "-nostdin", "-loglevel", "quiet", "-rtsp_transport", transport]
            command += ["-i", f"rtsp://127.0.0.1:{port}/{n}", "-c", "copy", "-f", "mp4", "-movflags", flags]
            processes.append(subprocess.Popen([*command, "-y", str(directory / f"{n}.mp4")]))
        time.sleep(WARM_UP_S)
        pids = [p.pid for p in processes]
        cpu, before = sum(map(cpu_seconds, pids)), sum(map(written, pids))
        time.sleep(seconds)
        cost = Cost(sum(map(cpu_seconds, pids)) - cpu, sum(map(peak_memory, pids)), sum(map(written, pids)) - before)
        small = [n for n in range(streams) if (directory / f"{n}.mp4").stat().st_size < 100_000]
        if small:
            raise SystemExit(f"ffmpeg has written nothing for stream {small[0]}")
        return cost
    finally:
        for p in processes:
            p.kill()
        for p in processes:
            p.wait()


def measure(transport: str, codec: str, arguments: argparse.Namespace) -> None:
    seconds = arguments.seconds
    with_ffmpeg = not arguments.without_ffmpeg and shutil.which("ffmpeg") is not None
    # Every measurement begins its streams from the first picture; one that ends would count as a loss.
    process, port, size, packets = start_camera(seconds + WARM_UP_S + CONNECT_S + 5, codec)
    print(f"\n{codec} over {transport}: {size * 8 / 1e6:.2f} Mbit/s and {packets} packets/s a stream, {seconds} s each")
    print("streams  recorder              MB  a stream  written  loop p99  worst    ffmpeg -c copy        MB  ratio")
    first: tuple[int, float] | None = None
    try:
        for streams in arguments.streams:
            gigabytes, count = size * streams * seconds / 1e9, packets * streams * seconds
            with tempfile.TemporaryDirectory(dir=arguments.directory) as directory:
                cost = measure_recorder(port, streams, seconds, transport, Path(directory))
            first = first or (streams, cost.memory_mb)
            each = (cost.memory_mb - first[1]) / (streams - first[0]) if streams > first[0] else None
            line = f"{streams:7}  {cost.cpu_s / gigabytes:5.2f} s/GB {cost.cpu_s / count * 1e6:5.1f} us/p"
            line += f" {cost.memory_mb:6.0f}  {'       -' if each is None else f'{each:5.2f} MB'}"
            line += f"  {cost.written / gigabytes / 1e9:7.2f}"
            assert cost.delays is not None
            line += f"  {cost.delays.below(0.99) * 1e3:5.0f} ms {cost.delays.below(1) * 1e3:5.0f} ms"
            if with_ffmpeg:
                peers = min(streams, arguments.peer_streams)
                with tempfile.TemporaryDirectory(dir=arguments.directory) as directory:
                    peer = measure_ffmpeg(port, peers, seconds, transport, Path(directory))
                share = peers / streams
                line += f"  {peer.cpu_s / gigabytes / share:5.2f} s/GB {peer.cpu_s / count / share * 1e6:5.1f} us/p"
                line += f" {peer.memory_mb:6.0f}  {cost.cpu_s * share / peer.cpu_s:5.2f}" if peer.cpu_s else "      -"
                line += f" (of {peers})" if peers < streams else ""
            print(f"{line}   ({cost.told}; load {os.getloadavg()[0]:.1f})", flush=True)
    finally:
        process.kill()
        process.wait()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--transport", nargs="+", choices=("tcp", "udp"), default=["tcp", "udp"])
    parser.add_argument("--codec", nargs="+", choices=("h264", "h265"), default=["h264", "h265"])
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 8, 32, 128])
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--peer-streams", type=int, default=32, help="at most so many of ffmpeg (53 MB each)")
    parser.add_argument("--without-ffmpeg", action="store_true")
    parser.add_argument("--directory", help="on which disk; default: that of temporary files")
    arguments = parser.parse_args()
    for transport in arguments.transport:
        for codec in arguments.codec:
            measure(transport, codec, arguments)
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"\nall processes together: {usage.ru_utime + usage.ru_stime:.0f} s of CPU")
    return 0


if __name__ == "__main__":
    sys.exit(main())
