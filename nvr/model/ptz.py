"""Positions of cameras that move (tt:PTZVector), and the volumes in which they are searched (IEC 62676-2-32 6.3.8)."""

from __future__ import annotations

from dataclasses import dataclass

PAN_TILT_SPACE = "http://www.onvif.org/ver10/tptz/PanTiltSpaces/PositionGenericSpace"
ZOOM_SPACE = "http://www.onvif.org/ver10/tptz/ZoomSpaces/PositionGenericSpace"
"""The generic spaces: what a vector without @space is in."""


@dataclass(frozen=True, slots=True)
class PanTilt:
    x: float
    y: float
    space: str | None = None


@dataclass(frozen=True, slots=True)
class Zoom:
    x: float
    space: str | None = None


@dataclass(frozen=True, slots=True)
class PtzVector:
    """Either part may be absent: in a filter its axes are free then."""

    pan_tilt: PanTilt | None = None
    zoom: Zoom | None = None


@dataclass(frozen=True, slots=True)
class PtzFilter:
    """tt:PTZPositionFilter: the volume between two corners, both included."""

    least: PtzVector
    most: PtzVector
    enter_or_exit: bool = False

    def holds(self, position: PtzVector) -> bool:
        """Whether the position lies in the volume. Spaces are not converted: one of another space does not."""
        return self._holds_pan_tilt(position.pan_tilt) and self._holds_zoom(position.zoom)

    def _holds_pan_tilt(self, found: PanTilt | None) -> bool:
        least, most = self.least.pan_tilt, self.most.pan_tilt
        if least is None and most is None:
            return True
        if found is None or any(_pan_tilt_space(b) != _pan_tilt_space(found) for b in (least, most) if b is not None):
            return False
        above = least is None or (found.x >= least.x and found.y >= least.y)
        return above and (most is None or (found.x <= most.x and found.y <= most.y))

    def _holds_zoom(self, found: Zoom | None) -> bool:
        least, most = self.least.zoom, self.most.zoom
        if least is None and most is None:
            return True
        if found is None or any(_zoom_space(b) != _zoom_space(found) for b in (least, most) if b is not None):
            return False
        return (least is None or found.x >= least.x) and (most is None or found.x <= most.x)


def _pan_tilt_space(vector: PanTilt) -> str:
    return vector.space or PAN_TILT_SPACE


def _zoom_space(vector: Zoom) -> str:
    return vector.space or ZOOM_SPACE


def spaces(position: PtzVector) -> frozenset[str]:
    """The spaces that a position is in, the generic ones by their names."""
    found = set()
    if position.pan_tilt is not None:
        found.add(_pan_tilt_space(position.pan_tilt))
    if position.zoom is not None:
        found.add(_zoom_space(position.zoom))
    return frozenset(found)
