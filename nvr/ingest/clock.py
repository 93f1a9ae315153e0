"""From RTP time to UTC: sender reports judged by the daemon's clock. Sans-I/O; docs/design/time.md has the reasons.

A `StreamClock` maps the RTP time of one stream by a straight line that is bent, never broken, while the run lasts: each
sender report bends it a little towards the truth. What cannot be bent is a jump, and the caller ends the run.
A `SessionClock` holds what the streams of one camera share: how far its clock is off, and whether it is believed.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import StrEnum

from nvr.model.time import NS, UtcNs, format_iso, unwrap, utc_from_ntp

PPB = 1_000_000_000
ARREARS_NS = 10 * NS
"""A source that is further behind than this has been given up for silence before."""


@dataclass(frozen=True, slots=True)
class ClockSettings:
    """How cameras' clocks are judged. All in nanoseconds unless said otherwise."""

    tolerance_ns: int = 5 * NS
    """A sender report farther than this from the daemon's clock is overruled."""
    jump_ns: int = 500_000_000
    """A correction above this ends the run; one below is slewed."""
    hold_ns: int = 4 * NS
    """How long samples wait for the first sender report before arrival times have to do."""
    horizon_ns: int = 10 * NS
    """The time over which one correction is spread."""
    slew_ppb: int = 5_000_000
    """The steepest correction, in parts per billion; larger errors take longer."""
    offset_slew_ppb: int = 500_000
    """How fast the offset of an overruled camera follows the daemon's clock."""
    drift_ppb: int = 1_000_000
    """The largest drift between a camera's RTP clock and its wall clock that is believed."""

    def __post_init__(self) -> None:
        for name in ("tolerance_ns", "jump_ns", "horizon_ns", "slew_ppb"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0")
        if min(self.hold_ns, self.offset_slew_ppb, self.drift_ppb) < 0:
            raise ValueError("hold, offset_slew_ppb and drift_ppb must not be below 0")
        if self.slew_ppb + self.drift_ppb >= PPB:
            raise ValueError("slew_ppb and drift_ppb together must stay below 1000000000: time would run backwards")


class Verdict(StrEnum):
    """What became of a sender report."""

    FIXED = "fixed"
    FOLLOWED = "followed"
    JUMPED = "jumped"
    REFUSED = "refused"


class StreamClock:
    """Maps the RTP time of one stream to UTC."""

    def __init__(self, rate: int, settings: ClockSettings) -> None:
        if rate <= 0:
            raise ValueError(f"an RTP clock rate of {rate} Hz measures no time")
        self.rate = rate
        self.fixed = False
        self.by_reports = False
        """Whether sender reports, not arrival times, fixed it."""
        self.offset: Offset | None = None
        """What is added to the camera's wall clock while that is overruled."""
        self.generation = 0
        """The generation of the daemon's clock that the line was last judged by."""
        self._settings = settings
        self._seen = False
        self._near = 0
        """The latest extended RTP time, of a unit or a report: what RTP times are unwrapped against."""
        self._newest = 0
        """Extended RTP time of the newest observation."""
        self._newest_arrival: UtcNs = 0
        self._arrears = 0
        """Nanoseconds by which RTP time has fallen behind arrival: what a stalled connection has still to bring."""
        self._unconfirmed = False
        self._first_arrival: UtcNs | None = None
        self._earliest: tuple[int, UtcNs] | None = None
        """The observation with the least delay so far: (extended RTP time, arrival)."""
        self._window_end: UtcNs = 0
        self._reports: deque[tuple[int, UtcNs]] = deque(maxlen=32)
        self._drift = 0
        self._base = 0
        self._base_utc: UtcNs = 0
        self._slope = 0
        """Parts per billion that the line is steeper than nominal, from `_base` to `_bend`; `_drift` behind it."""
        self._bend = 0
        self._top = 0
        """The largest extended RTP time that has been mapped."""

    # -- observations ------------------------------------------------------------------------------------------------

    def continuous(self, rtp_time: int, now_ns: UtcNs) -> bool:
        """Whether this RTP time can follow the ones before it. False: the camera has restarted its RTP clock.

        A step forward needs the time it claims (2 s are forgiven for jitter), since the unit before or since the stall
        whose backlog is coming in: the camera may have dropped what did not fit. A step back is B-frames up to 1 s.
        """
        if not self._seen:
            return True
        step = unwrap(rtp_time, self._newest) - self._newest
        rate = self.rate
        if -rate <= step <= 2 * rate:
            return True
        return 0 < step <= ((now_ns - self._newest_arrival + self._arrears) // NS + 2) * rate

    def passed(self, rtp_time: int) -> int | None:
        """Nanoseconds of RTP time since the newest unit; None where there is none."""
        return self._ns(unwrap(rtp_time, self._newest) - self._newest) if self._seen else None

    def observe(self, rtp_time: int, now_ns: UtcNs) -> None:
        """A unit has arrived. Called for the last unit of a batch, whose delay is the least."""
        ext = self._extend(rtp_time)
        if self._seen:
            behind = self._arrears + now_ns - self._newest_arrival - self._ns(ext - self._newest)
            self._arrears = max(0, min(behind, ARREARS_NS))
        else:
            self._first_arrival = now_ns
            self._arrears = 0
        self._seen = True
        self._near = self._newest = ext
        self._newest_arrival = now_ns
        if self._unconfirmed:
            self._unconfirmed = False
            if abs(now_ns - self._line(ext)) > 2 * self._settings.tolerance_ns and self.offset is None:
                # The report that came before the first packet spoke of another RTP clock.
                self.fixed = self.by_reports = False
                self._reports.clear()
        if not self.fixed:
            best = self._earliest
            if best is None or now_ns - best[1] < self._ns(ext - best[0]):
                self._earliest = (ext, now_ns)
        elif not self.by_reports:
            self._follow_arrival(ext, now_ns)

    def pause(self) -> None:
        """Units are not looked at for a while; reports go on. The next unit is compared with none before it."""
        self._seen = False

    def fix_by_arrival(self) -> None:
        """No sender report has come in time: the arrival with the least delay is taken for the truth."""
        if self._earliest is None:
            raise ValueError("nothing has arrived that could fix the clock")
        self._anchor(*self._earliest)
        self._window_end = self._earliest[1] + self._settings.horizon_ns
        self._earliest = None

    def hold_expired(self, now_ns: UtcNs) -> bool:
        """Whether samples have waited long enough for the first sender report."""
        return (
            not self.fixed
            and self._first_arrival is not None
            and (now_ns - self._first_arrival >= self._settings.hold_ns or now_ns < self._first_arrival)
        )

    # -- reports -----------------------------------------------------------------------------------------------------

    def predict(self, rtp_time: int) -> UtcNs | None:
        """The UTC that the line gives for this RTP time, without taking it as mapped; None before it is fixed."""
        return self._line(self._extend(rtp_time)) if self.fixed else None

    def plausible(self, rtp_time: int) -> bool:
        """Whether the RTP time of a report lies within 10 s of the packets (some cameras send constant zeros)."""
        return not self._seen or abs(unwrap(rtp_time, self._newest) - self._newest) <= 10 * self.rate

    def correct(self, rtp_time: int, camera_ns: UtcNs, offset_ns: int) -> Verdict:
        """A report that has been judged: `camera_ns + offset_ns` is the UTC of `rtp_time`."""
        ext = self._near = self._extend(rtp_time)
        target = camera_ns + offset_ns
        if not self.fixed:
            self._reports.clear()
            self._reports.append((ext, camera_ns))
            self._anchor(ext, target)
            self.by_reports = True
            self._unconfirmed = not self._seen
            return Verdict.FIXED
        if abs(target - self._line(ext)) > self._settings.jump_ns:
            self._drift = 0
            self._reports.clear()
            self._reports.append((ext, camera_ns))
            self._anchor(ext, target)
            self.by_reports = True
            return Verdict.JUMPED
        self.by_reports = True
        self._estimate_drift(ext, camera_ns)
        self._steer(ext, target, self._settings.horizon_ns)
        return Verdict.FOLLOWED

    # -- mapping -----------------------------------------------------------------------------------------------------

    def utc(self, rtp_time: int) -> UtcNs:
        """UTC of a unit. In one run it grows with RTP time, whatever reports come between."""
        ext = self._extend(rtp_time)
        if ext > self._top:
            self._top = ext
            if ext > self._bend and self._slope != self._drift:
                bend_utc = self._line(self._bend)
                self._base, self._base_utc, self._slope = self._bend, bend_utc, self._drift
        return self._line(ext)

    def _line(self, ext: int) -> UtcNs:
        ticks = ext - self._base
        if self._slope != self._drift and ext > self._bend:
            first = self._bend - self._base
            return (
                self._base_utc
                + first * (PPB + self._slope) // self.rate
                + (ticks - first) * (PPB + self._drift) // self.rate
            )
        return self._base_utc + ticks * (PPB + self._slope) // self.rate

    def _extend(self, rtp_time: int) -> int:
        return unwrap(rtp_time, self._near) if self._seen or self.fixed else rtp_time

    def _ns(self, ticks: int) -> int:
        return ticks * NS // self.rate

    def _anchor(self, ext: int, utc_ns: UtcNs) -> None:
        self.fixed = True
        self._base, self._base_utc, self._slope, self._bend = ext, utc_ns, self._drift, ext
        self._top = ext

    def _steer(self, ext: int, target: UtcNs, horizon_ns: int) -> None:
        """Bend the line at the newest mapped time, so that it meets the target behind the horizon."""
        knee = max(self._top, ext)
        knee_utc = self._line(knee)
        error = target + (knee - ext) * (PPB + self._drift) // self.rate - knee_utc
        limit = self._settings.slew_ppb
        correction = max(-limit, min(limit, error * PPB // horizon_ns))
        span_ns = abs(error) * PPB // limit if abs(correction) == limit else horizon_ns
        self._base, self._base_utc = knee, knee_utc
        self._slope = self._drift + correction
        self._bend = knee + span_ns * self.rate // NS
        self._top = knee

    def _estimate_drift(self, ext: int, camera_ns: UtcNs) -> None:
        """Reports jitter by milliseconds: only a baseline of 20 s and more tells drift from noise."""
        self._reports.append((ext, camera_ns))
        first_ext, first_ns = self._reports[0]
        nominal = self._ns(ext - first_ext)
        if abs(camera_ns - first_ns - nominal) > self._settings.jump_ns:
            self._reports.clear()  # the camera's wall clock was set: the old baseline says nothing any more
            self._reports.append((ext, camera_ns))
            return
        if nominal < 20 * NS:
            return
        drift = (camera_ns - first_ns - nominal) * PPB // nominal
        limit = self._settings.drift_ppb
        self._drift = max(-limit, min(limit, drift))

    def _follow_arrival(self, ext: int, now_ns: UtcNs) -> None:
        """Without reports the line follows the least delay of each window, three times as slowly."""
        best = self._earliest
        if best is None or now_ns - self._line(ext) < best[1] - self._line(best[0]):
            self._earliest = (ext, now_ns)
        if now_ns < self._window_end:
            return
        window_ext, arrival = self._earliest or (ext, now_ns)
        self._earliest = None
        self._window_end = now_ns + self._settings.horizon_ns
        if abs(arrival - self._line(window_ext)) <= self._settings.jump_ns:
            self._steer(window_ext, arrival, 3 * self._settings.horizon_ns)


class Offset:
    """What is added to an overruled wall clock; shared by the streams of a camera whose reports agree."""

    def __init__(self, offset_ns: int, delay_ns: int, now_ns: UtcNs, generation: int) -> None:
        self.ns = offset_ns
        self.generation = generation
        self._delay = delay_ns
        self._least = deque([delay_ns], maxlen=8)
        """Delays of the latest reports against the daemon's clock; the least is the nearest to the truth."""
        self._moved_at = now_ns

    def agrees(self, delay_ns: int, generation: int) -> bool:
        """Whether a report speaks of the same wall clock: a second covers drift, jitter and the drain's ticks."""
        return generation == self.generation and abs(delay_ns - self._delay) <= NS

    def follow(self, delay_ns: int, now_ns: UtcNs, slew_ppb: int) -> None:
        """Move slowly towards the least delay seen lately."""
        self._delay = delay_ns
        self._least.append(delay_ns)
        limit = max(0, now_ns - self._moved_at) * slew_ppb // PPB
        self._moved_at = now_ns
        if len(self._least) >= 4:
            self.ns += max(-limit, min(limit, min(self._least) - self.ns))


class SessionClock:
    """The wall clock of one camera, judged by the daemon's."""

    def __init__(self, settings: ClockSettings | None = None) -> None:
        self.settings = settings or ClockSettings()
        self.overruled = False
        self.judgement: str | None = None
        """One sentence about a camera that is not believed; None while it is."""
        self.agrees = False
        """Whether the camera's wall clock, by its last report, is that of the daemon."""
        self.behind_ns = 0
        """By its last report: how much later than the time that it is given what the camera sends arrives."""
        self.refused_reports = 0
        self._offset: Offset | None = None
        self._generation = 0

    def stream(self, rate: int) -> StreamClock:
        """A clock for one stream of this session, also for one whose source has begun a new RTP clock."""
        clock = StreamClock(rate, self.settings)
        clock.generation = self._generation
        return clock

    def rejudge(self) -> None:
        """The daemon's own clock has jumped: what was measured against it is void."""
        self._generation += 1
        self._offset = None
        self.agrees = False

    def sender_report(self, stream: StreamClock, ntp: int, rtp_time: int, now_ns: UtcNs) -> Verdict:
        """A sender report (RFC 3550 6.4.1) has arrived at `now_ns` of the daemon's clock.

        `ntp` is the 64-bit time stamp as on the wire; zero means that the sender has no wall clock.
        """
        if ntp == 0 or not stream.plausible(rtp_time):
            self.refused_reports += 1
            return Verdict.REFUSED
        camera_ns = utc_from_ntp(ntp, now_ns)
        delay = now_ns - camera_ns
        # Half the tolerance on the way back, so that a clock on the edge is not judged anew with every report.
        if abs(delay) <= self.settings.tolerance_ns // (2 if self.overruled else 1):
            self.overruled = False
            self.agrees = True
            self.judgement = None
            self._offset = stream.offset = None
            self.behind_ns = delay
            stream.generation = self._generation
            return stream.correct(rtp_time, camera_ns, 0)
        self.overruled = True
        self.agrees = False
        self.judgement = (
            f"the camera's clock says {format_iso(camera_ns, 0)}, {abs(delay) // NS} s "
            f"{'behind' if delay > 0 else 'ahead of'} this recorder's; it is overruled"
        )
        offset_ns = self._overrule(stream, rtp_time, camera_ns, now_ns)
        self.behind_ns = delay - offset_ns
        return stream.correct(rtp_time, camera_ns, offset_ns)

    def _overrule(self, stream: StreamClock, rtp_time: int, camera_ns: UtcNs, now_ns: UtcNs) -> int:
        """The offset for a report that is not believed.

        Where times already run, they run on: a camera whose clock jumps away does not tear its recording apart.
        """
        delay = now_ns - camera_ns
        for known in (stream.offset, self._offset):
            if known is not None and known.agrees(delay, self._generation):
                known.follow(delay, now_ns, self.settings.offset_slew_ppb)
                stream.offset = known
                stream.generation = self._generation
                return known.ns
        predicted = stream.predict(rtp_time) if stream.generation == self._generation else None
        runs_on = predicted is not None and abs(predicted - now_ns) <= 2 * self.settings.tolerance_ns
        offset_ns = predicted - camera_ns if predicted is not None and runs_on else delay
        stream.generation = self._generation
        stream.offset = self._offset = Offset(offset_ns, delay, now_ns, self._generation)
        return offset_ns
