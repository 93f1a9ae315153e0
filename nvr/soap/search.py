"""The recording search service (IEC 62676-2-32 clause 6)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from nvr.model.job import RECEIVER_TYPE, SourceReference
from nvr.model.search import RecordingInformation, RecordingSummary, SearchScope, SearchState, TrackInformation
from nvr.model.time import UtcNs
from nvr.model.tokens import RecordingToken, SearchToken
from nvr.soap import types
from nvr.soap.model import Boolean, Duration, Int, ReferenceToken, Struct, UtcTime, attribute, optional, required
from nvr.soap.names import TSE
from nvr.soap.recordings_wire import encode_source_information
from nvr.soap.service import AccessClass, Call, Result, Service, operation


class Searches(Protocol):
    """What this service needs of nvr.search; errors are those of nvr.model.errors."""

    async def summary(self) -> RecordingSummary: ...
    def information(self, token: RecordingToken) -> RecordingInformation: ...
    def find_recordings(
        self, scope: SearchScope, max_matches: int | None, keep_alive_ns: int, user: str | None = None
    ) -> SearchToken: ...
    async def recording_results(
        self, token: SearchToken, minimum: int | None, maximum: int | None, wait_ns: int | None
    ) -> tuple[SearchState, Sequence[RecordingInformation]]: ...
    def end(self, token: SearchToken) -> UtcNs: ...


class Capabilities(Struct):
    __namespace__ = TSE
    __open__ = True

    MetadataSearch = attribute(Boolean)
    GeneralStartEvents = attribute(Boolean)


class SearchService(Service):
    namespace = TSE
    path = "/onvif/search_service"
    contract = "search.wsdl"
    not_implemented = frozenset(
        {
            "GetMediaAttributes",
            "FindEvents",
            "GetEventSearchResults",
            "FindPTZPosition",
            "GetPTZPositionSearchResults",
            "GetSearchState",
            "FindMetadata",
            "GetMetadataSearchResults",
        }
    )

    def __init__(self, searches: Searches) -> None:
        self._searches = searches

    def capabilities(self) -> Capabilities:
        return Capabilities(MetadataSearch=False, GeneralStartEvents=False)

    @operation("GetServiceCapabilities", AccessClass.PRE_AUTH, response={"Capabilities": required(Capabilities)})
    def get_service_capabilities(self, _: Call) -> Result:
        return {"Capabilities": self.capabilities()}

    @operation("GetRecordingSummary", AccessClass.READ_MEDIA, response={"Summary": required(types.RecordingSummary)})
    async def get_recording_summary(self, _: Call) -> Result:
        summary = await self._searches.summary()
        wire = types.RecordingSummary(
            DataFrom=summary.data_from_ns, DataUntil=summary.data_until_ns, NumberRecordings=summary.recordings
        )
        return {"Summary": wire}

    @operation(
        "GetRecordingInformation",
        AccessClass.READ_MEDIA,
        request={"RecordingToken": required(ReferenceToken)},
        response={"RecordingInformation": required(types.RecordingInformation)},
    )
    def get_recording_information(self, call: Call) -> Result:
        information = self._searches.information(RecordingToken(call.request.RecordingToken))
        return {"RecordingInformation": encode_information(information)}

    @operation(
        "FindRecordings",
        AccessClass.READ_MEDIA,
        request={
            "Scope": required(types.SearchScope),
            "MaxMatches": optional(Int),
            "KeepAliveTime": required(Duration),
        },
        response={"SearchToken": required(ReferenceToken)},
    )
    def find_recordings(self, call: Call) -> Result:
        asked = call.request
        return {
            "SearchToken": self._searches.find_recordings(
                decode_scope(asked.Scope), asked.MaxMatches, asked.KeepAliveTime, call.caller.name
            )
        }

    @operation(
        "GetRecordingSearchResults",
        AccessClass.READ_MEDIA,
        request={
            "SearchToken": required(ReferenceToken),
            "MinResults": optional(Int),
            "MaxResults": optional(Int),
            "WaitTime": optional(Duration),
        },
        response={"ResultList": required(types.FindRecordingResultList)},
    )
    async def get_recording_search_results(self, call: Call) -> Result:
        asked = call.request
        state, found = await self._searches.recording_results(
            SearchToken(asked.SearchToken), asked.MinResults, asked.MaxResults, asked.WaitTime
        )
        results = types.FindRecordingResultList(
            SearchState=state, RecordingInformation=(encode_information(i) for i in found)
        )
        return {"ResultList": results}

    @operation(
        "EndSearch",
        AccessClass.READ_MEDIA,
        request={"SearchToken": required(ReferenceToken)},
        response={"Endpoint": required(UtcTime)},
    )
    def end_search(self, call: Call) -> Result:
        return {"Endpoint": self._searches.end(SearchToken(call.request.SearchToken))}


def decode_scope(wire: types.SearchScope) -> SearchScope:
    return SearchScope(
        tuple(SourceReference(s.Token, s.Type or RECEIVER_TYPE) for s in wire.IncludedSources),
        tuple(RecordingToken(t) for t in wire.IncludedRecordings),
        wire.RecordingInformationFilter,
    )


def encode_information(information: RecordingInformation) -> types.RecordingInformation:
    return types.RecordingInformation(
        RecordingToken=information.token,
        Source=encode_source_information(information.source),
        EarliestRecording=information.earliest_ns,
        LatestRecording=information.latest_ns,
        Content=information.content,
        Track=[_encode_track(t) for t in information.tracks],
        RecordingStatus=information.status,
    )


def _encode_track(track: TrackInformation) -> types.TrackInformation:
    return types.TrackInformation(
        TrackToken=track.token,
        TrackType=track.track_type,
        Description=track.description,
        DataFrom=track.data_from_ns,
        DataTo=track.data_to_ns,
    )
