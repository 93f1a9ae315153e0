"""`nvr check`: the files of the volumes against the index and their own checksums, beside a daemon or without one.

Beside a running daemon this process only reads: files, directories, and the index through a connection of its own. It
takes no lock that a writer waits for, costs the daemon no time of its interpreter, and can be made nicer than it. What
is to be mended is asked of the daemon over its control socket, because only its writer may change a volume. Without a
daemon the command holds the locks of the data directory and of the volumes, and mends by itself.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from nvr.config import Settings
from nvr.data_directory import DataDirectory, InUse
from nvr.model.errors import NvrError, OperatorError, Refused, StorageError
from nvr.model.tokens import RecordingToken
from nvr.operations.control_socket import ask_daemon
from nvr.storage.disk import Disk
from nvr.storage.findings import MENDED_FROM_FILE, Damage, Finding, Kind, Repair
from nvr.storage.index import SqlFootageIndex
from nvr.storage.mending import Mended, examine_for, mend
from nvr.storage.rows import FootageIndex
from nvr.storage.settings import VolumeSettings
from nvr.storage.settling import file_id_of
from nvr.storage.survey import Survey
from nvr.storage.track_file import FOOTAGE
from nvr.storage.volume import IDENTITY_FILE, Volume, VolumeRegistry


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be checked: everything, or these recordings and volumes (an id or a directory each)."""

    recordings: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    repair: bool = False


@dataclass(frozen=True, slots=True)
class Reported:
    """A finding, and what was done about it; empty without `repair` and for what is known."""

    finding: Finding
    done: str = ""
    remains: bool = True
    """What was found is there still."""


@dataclass(slots=True)
class Outcome:
    files: int = 0
    bytes_read: int = 0
    found: int = 0
    """Findings that were not known before, but for files that were left open."""
    left_open: int = 0
    """Files that nobody closed because the recorder did not end in order: the next start closes them."""
    mended: int = 0
    """Findings, and files left open, that are gone now."""
    remembered: int = 0
    """Damaged places that stay as they are and are known from now on."""
    known: int = 0
    beside: bool = False
    """A daemon was running."""
    unchecked: list[str] = field(default_factory=list)
    """What could not be checked as asked, and why, one sentence each."""

    @property
    def remaining(self) -> int:
        """Findings that are neither mended nor remembered."""
        return self.found + self.left_open - self.mended - self.remembered

    def count(self, reported: Reported) -> None:
        finding = reported.finding
        if finding.known:
            self.known += 1
            return
        if finding.kind is Kind.LEFT_OPEN:
            self.left_open += 1
        else:
            self.found += 1
        if not reported.remains:
            self.remembered += finding.kind is Kind.CHECKSUM
            self.mended += finding.kind is not Kind.CHECKSUM

    @property
    def status(self) -> int:
        """Exit status: 0 nothing that was not known, 1 findings, 2 something could not be checked."""
        return 2 if self.unchecked else int(self.found > 0)


def check_footage(
    data: Path,
    settings: Settings,
    request: Request,
    report: Callable[[Reported], None],
    progress: Callable[[Survey, int], None] = lambda survey, total: None,
) -> Outcome:
    """Blocking. `report` is told of each finding as it is found, `progress` of the pass and of the bytes there are.

    Raises OperatorError when nothing can be checked.
    """
    if not (data / "index.db").exists():
        raise OperatorError(f"{data} is no data directory of a recorder")
    with ExitStack() as stack:
        try:
            directory = stack.enter_context(DataDirectory(data))
            index = SqlFootageIndex.open(directory.index)
            beside = False
        except InUse:
            index = SqlFootageIndex.open_beside(data / "index.db")
            beside = True
        stack.callback(index.shut)
        outcome = Outcome(beside=beside)
        if beside:
            settings = _with_volumes_of_daemon(data, settings)
        volumes = _volumes(settings, request, outcome, beside)
        for volume in volumes:
            stack.callback(volume.close)
        recordings = _recordings(request, index, volumes)
        mender = _Mender(data, index, volumes, beside) if request.repair else None
        survey = Survey(index, volumes, growing=beside, recordings=recordings, progress=lambda: progress(survey, total))
        total = survey.total_bytes()
        findings = survey.findings()
        if beside:
            findings = _not_waiting(data, index, findings, outcome)
        try:
            for reported in _mended(survey, findings, mender):
                outcome.count(reported)
                report(reported)
        except StorageError as e:
            outcome.unchecked.append(f"the check has ended early: {e}")
        outcome.files, outcome.bytes_read = survey.files, survey.bytes_read
        return outcome


def _mended(survey: Survey, findings: Iterable[Finding], mender: _Mender | None) -> Iterator[Reported]:
    for finding in findings:
        if mender is None or finding.known:
            yield Reported(finding)
            continue
        mended = mender.mend(finding)
        yield Reported(finding, mended.text, mended.remains)
        if finding.kind is Kind.UNREADABLE and not mended.remains:  # what stands behind its head was not seen so far
            yield from _mended(survey, survey.again(finding), mender)


def _not_waiting(data: Path, index: FootageIndex, findings: Iterable[Finding], outcome: Outcome) -> Iterator[Finding]:
    """Without what only seems to be wrong, because the daemon could not write a row to the index yet: it has it in
    memory, shows the footage, and enters it as soon as it can. These files are told as not checked."""
    waiting: set[str] = set()
    why = ""
    for finding in findings:
        file_id = finding.file_id or file_id_of(Path(finding.path))
        waits = _row_waits(data, file_id)
        if waits is not None:
            waiting.add(file_id)
            why = waits
        elif finding.kind is not Kind.ORPHAN or not index.known([file_id]):  # it may have been entered meanwhile
            yield finding
    if waiting:
        outcome.unchecked.append(
            f"{len(waiting)} files, whose rows the recorder could not write to its index yet: {why}"
        )


def _row_waits(data: Path, file_id: str) -> str | None:
    """Why the row of a file waits in the daemon; None where it does not, or no daemon can say so."""
    try:
        answer = ask_daemon(data, "check waits", {"file": file_id})
    except (Refused, OperatorError):  # of another version, or stopping: a finding that nobody can explain stands
        return None
    return answer[0]["why"] if answer else None


def _with_volumes_of_daemon(data: Path, settings: Settings) -> Settings:
    """It knows its volumes, whether this command was given its configuration or not. Raises OperatorError."""
    try:
        answer = ask_daemon(data, "volumes", {})
    except Refused:  # a daemon of a version that cannot tell
        return settings
    configured = {v.root.absolute() for v in settings.storage.volumes}
    more = [VolumeSettings(Path(row["root"])) for row in answer or () if Path(row["root"]) not in configured]
    storage = replace(settings.storage, volumes=(*settings.storage.volumes, *more))
    return replace(settings, storage=storage)


def _volumes(settings: Settings, request: Request, outcome: Outcome, beside: bool) -> list[Volume]:
    """Those that can be read; the others are named in the outcome."""
    registry = VolumeRegistry(settings.storage.registry, Disk())
    wanted = {v if Path(v).name == v else str(Path(v).absolute()) for v in request.volumes}
    volumes = []
    for volume_settings in settings.storage.volumes:
        volume = Volume(volume_settings, registry, Disk())
        names = {volume.id, str(volume.root.absolute())}
        if request.volumes and not names & wanted:
            continue
        wanted -= names
        if volume.id is None and not (volume.root / IDENTITY_FILE).exists():
            continue  # never used: there is nothing on it
        try:
            if not beside:
                volume.take(time.time_ns())
            elif not volume.present():
                raise StorageError("it is not there, or another one is in its place")
        except (OSError, NvrError) as e:
            outcome.unchecked.append(f"volume {volume.root}: {e}")
            continue
        volumes.append(volume)
    if request.volumes and wanted - {None}:
        raise OperatorError(f"there is no volume {sorted(map(str, wanted))[0]} among the configured ones")
    if not request.volumes:
        for root, volume_id in registry.others({v.id for v in volumes}).items():
            if root not in {v.root.absolute() for v in settings.storage.volumes}:
                outcome.unchecked.append(f"volume {volume_id}, last at {root}, is not among the configured ones")
    return volumes


def _recordings(request: Request, index: FootageIndex, volumes: Sequence[Volume]) -> list[RecordingToken] | None:
    if not request.recordings:
        return None
    known = {key.recording for key in index.all_runs()}
    for volume in volumes:
        known |= {row.recording for row in index.open_files(volume.id or "")}
    for token in request.recordings:
        there = any((volume.path(FOOTAGE) / token).is_dir() for volume in volumes) if "/" not in token else False
        if token not in known and not there:
            raise OperatorError(f"there is no footage of a recording {token}; `nvr camera list` shows their tokens")
    return [RecordingToken(t) for t in request.recordings]


class _Mender:
    """Has findings mended, by the daemon or here; the row of a file is made anew once, however much is wrong."""

    def __init__(self, data: Path, index: FootageIndex, volumes: Sequence[Volume], beside: bool) -> None:
        self._data = data
        self._index = index
        self._volumes = {v.id: v for v in volumes}
        self._beside = beside
        self._last: tuple[str, Mended] | None = None
        """Id of the last file whose row was made anew, and what came of it."""

    def mend(self, finding: Finding) -> Mended:
        """What was done."""
        if finding.kind in MENDED_FROM_FILE:
            if self._last is not None and self._last[0] == finding.file_id:
                return Mended("with the same repair", remains=self._last[1].remains)
            mended = self._mend(finding)
            self._last = finding.file_id, mended
            return mended
        return self._mend(finding)

    def _mend(self, finding: Finding) -> Mended:
        damage: tuple[Damage, ...] = ()
        if finding.kind is Kind.CHECKSUM and finding.offset is not None:
            damage = (Damage(finding.file_id, finding.offset, finding.length),)
        repair = Repair(finding.kind, finding.volume_id, finding.path, finding.file_id, damage)
        try:
            return self._by_daemon(repair) if self._beside else self._here(repair)
        except (NvrError, OSError) as e:
            return Mended(f"not mended: {e}", remains=True)

    def _here(self, repair: Repair) -> Mended:
        volume = self._volumes[repair.volume_id]
        return mend(volume.disk, volume, self._index, repair, examine_for(volume, repair))

    def _by_daemon(self, repair: Repair) -> Mended:
        arguments = {
            "kind": repair.kind.value,
            "volume": repair.volume_id,
            "path": repair.path,
            "file": repair.file_id,
            "damage": json.dumps([(d.offset, d.length) for d in repair.damage]),
        }
        answer = ask_daemon(self._data, "check mend", arguments)
        if answer is None:
            return Mended("not mended: the daemon is starting or stopping; try again in a moment", remains=True)
        return Mended(answer[0]["done"], remains=bool(answer[0].get("remains")))
