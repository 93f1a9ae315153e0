"""Order and loss in one RTP stream (RFC 3550 A.1): what arrives goes in, what is in order comes out, loss is counted.

The caller's hot loop does the ordinary case itself, without a call for each packet:

    if sequence == order.in_order and ssrc == order.ssrc:
        order.in_order = (sequence + 1) & 0xFFFF
        deliver(packet)                                       # and count it: order.received += packets, once a drain
    else:
        for release in order.push(sequence, ssrc, packet, now_ns):
            if release.restart: ...                           # another source, or one that began anew
            if release.lost: depacketizer.lost(release.lost)
            deliver(release.item)

`in_order` is -1 while packets are held, so that the fast way is closed and every packet comes through `push`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

MAX_DROPOUT: Final = 3000
"""A forward jump of this many packets is perhaps no loss but a restart (RFC 3550 A.1)."""
MAX_MISORDER: Final = 100
"""How far behind a late packet may come before it is perhaps a restart."""

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Release(Generic[Item]):
    """One packet whose turn it is."""

    item: Item
    sequence: int
    lost: int = 0
    """Packets missing between the one before and this one."""
    restart: bool = False
    """The source began anew (SSRC or sequence numbers): what came before cannot be continued. `lost` is 0 then."""


class SequenceOrder(Generic[Item]):
    """Reorders within a window, drops duplicates, counts losses, finds restarts.

    `window` 0 is for transports that keep the order (TCP): every hole is a loss at once. Otherwise up to `window`
    packets wait for a hole to be filled, none longer than `hold_ns`. A step back by MAX_MISORDER or less is no restart
    (RFC 3550 A.1): senders repeat packets in bunches, and by the numbers nothing tells a restart from that.

    A packet that fits nowhere (another SSRC, a jump of MAX_DROPOUT or more, a longer step back) is kept until the next
    one: if that continues it, both are released; if not, it was a stray and is counted in `strays`. Released they are
    as those of a source that has restarted, unless it is the same SSRC and `is_loss` says that the jump is a loss.
    """

    def __init__(self, window: int = 0, hold_ns: int = 100_000_000) -> None:
        if not 0 <= window <= MAX_DROPOUT:
            raise ValueError(f"a reorder window has 0 to {MAX_DROPOUT} packets, not {window}")
        self.window = window
        self.hold_ns = hold_ns
        self.in_order = -1
        self.ssrc = -1
        self.received = 0
        """Packets released; the caller adds those of its fast way."""
        self.lost = 0
        self.late = 0
        """Came behind their turn: reckoned lost before, or delivered before and repeated; dropped now."""
        self.duplicates = 0
        self.reordered = 0
        self.strays = 0
        self.restarts = 0
        self.is_loss: Callable[[Item, int], bool] = lambda item, missing: False
        """Whether so many packets can be missing in front of this one. Sequence numbers alone cannot tell a loss of
        MAX_DROPOUT packets from a sender that began anew; time stamps can."""
        self._next = -1
        self._held: dict[int, tuple[Item, int]] = {}
        """Sequence number to packet and moment of arrival; all less than MAX_DROPOUT ahead of `_next`."""
        self._newest = 0
        """Of the held packets, the one that is farthest ahead."""
        self._candidate: tuple[int, int, Item] | None = None
        """Sequence number, SSRC and packet of what may be the beginning of a restart."""

    def push(self, sequence: int, ssrc: int, item: Item, now_ns: int = 0) -> Sequence[Release[Item]]:
        """A packet that the fast way did not take. `item` is kept where it has to wait: no view of a buffer in use.

        `now_ns` is of a monotonic clock and only matters with a window.
        """
        if self.in_order >= 0:
            self._next = self.in_order
        if self._next < 0:
            self.ssrc = ssrc
            return [self._release(sequence, item, 0)]
        if ssrc != self.ssrc:
            return self._stray(sequence, ssrc, item)
        ahead = (sequence - self._next) & 0xFFFF
        if ahead < MAX_DROPOUT:
            return self._in_window(sequence, ahead, item, now_ns)
        behind = 0x1_0000 - ahead
        if behind == 1:  # the one before it was delivered, whatever else happened
            self.duplicates += 1
            return ()
        if behind <= MAX_MISORDER:
            self.late += 1
            return ()
        return self._stray(sequence, ssrc, item)

    def due(self, now_ns: int) -> Sequence[Release[Item]]:
        """What has waited for `hold_ns`: the hole before it is given up. To be called now and then with a window."""
        released: list[Release[Item]] = []
        while any(now_ns - since >= self.hold_ns for _, since in self._held.values()):
            released += self._give_up_hole()
        return released

    @property
    def waiting(self) -> bool:
        """Whether packets wait for a late one."""
        return bool(self._held)

    def give_up(self) -> Sequence[Release[Item]]:
        """Everything that waits for late packets, in order, without a possible restart."""
        return self._give_up_all()

    def flush(self) -> Sequence[Release[Item]]:
        """The stream ended: everything that waits, in order, also a possible restart."""
        released = self._give_up_all()
        if self._candidate is not None:
            released.append(self._jumped(*self._candidate))
        return released

    def _in_window(self, sequence: int, ahead: int, item: Item, now_ns: int) -> Sequence[Release[Item]]:
        self._drop_candidate()
        if sequence in self._held:
            self.duplicates += 1
            return ()
        if ahead == 0 or not self.window:
            self.reordered += bool(self._held)
            return [self._release(sequence, item, ahead), *self._continue()]
        if self._held and (self._newest - sequence) & 0xFFFF < MAX_DROPOUT:
            self.reordered += 1
        else:
            self._newest = sequence
        self._held[sequence] = item, now_ns
        self.in_order = -1
        released: list[Release[Item]] = []
        # Packets that lie more than a window behind the newest are not waited for.
        while self._held and (self._newest - self._next) & 0xFFFF > self.window:
            released += self._give_up_hole()
        return released

    def _stray(self, sequence: int, ssrc: int, item: Item) -> Sequence[Release[Item]]:
        candidate = self._candidate
        if candidate is not None and candidate[1] == ssrc and (candidate[0] + 1) & 0xFFFF == sequence:
            return [*self._give_up_all(), self._jumped(*candidate), self._release(sequence, item, 0)]
        self._drop_candidate()
        self._candidate = sequence, ssrc, item
        self.in_order = -1
        return ()

    def _drop_candidate(self) -> None:
        if self._candidate is not None:
            self._candidate = None
            self.strays += 1
            self.in_order = self._next if not self._held else -1

    def _jumped(self, sequence: int, ssrc: int, item: Item) -> Release[Item]:
        self._candidate = None
        missing = (sequence - self._next) & 0xFFFF
        if ssrc == self.ssrc and self.is_loss(item, missing):
            return self._release(sequence, item, missing)
        self.ssrc = ssrc
        self.restarts += 1
        return self._release(sequence, item, 0, restart=True)

    def _release(self, sequence: int, item: Item, lost: int, restart: bool = False) -> Release[Item]:
        self.received += 1
        self.lost += lost
        self._next = (sequence + 1) & 0xFFFF
        self.in_order = self._next if not self._held and self._candidate is None else -1
        return Release(item, sequence, lost, restart)

    def _continue(self) -> list[Release[Item]]:
        """The held packets that follow without a hole."""
        released: list[Release[Item]] = []
        while (held := self._held.pop(self._next, None)) is not None:
            released.append(self._release(self._next, held[0], 0))
        return released

    def _give_up_hole(self) -> list[Release[Item]]:
        """The held packet that is next, the loss before it, and what follows it without a hole."""
        sequence = min(self._held, key=lambda held: (held - self._next) & 0xFFFF)
        item, _ = self._held.pop(sequence)
        return [self._release(sequence, item, (sequence - self._next) & 0xFFFF), *self._continue()]

    def _give_up_all(self) -> list[Release[Item]]:
        released: list[Release[Item]] = []
        while self._held:
            released += self._give_up_hole()
        return released
