"""The recording search service (IEC 62676-2-32 clause 6)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from nvr.model.search import (
    EventFilter,
    FoundEvent,
    RecordingInformation,
    RecordingSummary,
    SearchInterval,
    SearchLimits,
    SearchScope,
    SearchState,
    SearchWish,
)
from nvr.model.time import UtcNs
from nvr.model.tokens import RecordingToken, SearchToken
from nvr.soap import search_types, types
from nvr.soap.model import Boolean, Duration, Int, ReferenceToken, Struct, UtcTime, attribute, optional, required, words
from nvr.soap.names import TSE
from nvr.soap.search_wire import decode_event_filter, decode_scope, encode_found_event, encode_information
from nvr.soap.service import AccessClass, Call, Result, Service, operation


class Searches(Protocol):
    """What this service needs of nvr.search; errors are those of nvr.model.errors."""

    async def summary(self) -> RecordingSummary: ...
    def information(self, token: RecordingToken) -> RecordingInformation: ...
    def find_recordings(self, scope: SearchScope, limits: SearchLimits) -> SearchToken: ...
    async def find_events(
        self, interval: SearchInterval, scope: SearchScope, wanted: EventFilter, start_state: bool, limits: SearchLimits
    ) -> SearchToken: ...
    async def recording_results(
        self, token: SearchToken, wish: SearchWish
    ) -> tuple[SearchState, Sequence[RecordingInformation]]: ...
    async def event_results(self, token: SearchToken, wish: SearchWish) -> tuple[SearchState, Sequence[FoundEvent]]: ...
    def state(self, token: SearchToken, user: str | None = None) -> SearchState: ...
    def end(self, token: SearchToken, user: str | None = None) -> UtcNs: ...


_SESSION = {"MaxMatches": optional(Int), "KeepAliveTime": required(Duration)}
"""What every Find operation ends with."""
_INTERVAL = {"StartPoint": required(UtcTime), "EndPoint": optional(UtcTime), "Scope": required(types.SearchScope)}
_RESULTS = {
    "SearchToken": required(ReferenceToken),
    "MinResults": optional(Int),
    "MaxResults": optional(Int),
    "WaitTime": optional(Duration),
}
_FOUND = {"SearchToken": required(ReferenceToken)}


class Capabilities(Struct):
    __namespace__ = TSE
    __open__ = True

    MetadataSearch = attribute(Boolean)
    GeneralStartEvents = attribute(Boolean)


class SearchService(Service):
    namespace = TSE
    path = "/onvif/search_service"
    contract = "search.wsdl"
    not_implemented_subcodes = ("NotImplemented",)
    not_implemented = frozenset(
        {
            "GetMediaAttributes",
            "FindPTZPosition",
            "GetPTZPositionSearchResults",
            "FindMetadata",
            "GetMetadataSearchResults",
        }
    )

    def __init__(self, searches: Searches) -> None:
        self._searches = searches

    def capabilities(self) -> Capabilities:
        return Capabilities(MetadataSearch=False, GeneralStartEvents=True)

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
        request={"Scope": required(types.SearchScope), **_SESSION},
        response=_FOUND,
    )
    def find_recordings(self, call: Call) -> Result:
        scope = decode_scope(call.request.Scope)
        return {"SearchToken": self._searches.find_recordings(scope, _limits(call))}

    @operation(
        "GetRecordingSearchResults",
        AccessClass.READ_MEDIA,
        request=_RESULTS,
        response={"ResultList": required(types.FindRecordingResultList)},
    )
    async def get_recording_search_results(self, call: Call) -> Result:
        state, found = await self._searches.recording_results(_token(call), _wish(call))
        results = types.FindRecordingResultList(
            SearchState=state, RecordingInformation=(encode_information(i) for i in found)
        )
        return {"ResultList": results}

    @operation(
        "FindEvents",
        AccessClass.READ_MEDIA,
        request={
            **_INTERVAL,
            "SearchFilter": required(search_types.EventFilter),
            "IncludeStartState": required(Boolean),
            **_SESSION,
        },
        response=_FOUND,
    )
    async def find_events(self, call: Call) -> Result:
        asked = call.request
        wanted = decode_event_filter(asked.SearchFilter)
        token = await self._searches.find_events(
            _interval(call), decode_scope(asked.Scope), wanted, asked.IncludeStartState, _limits(call)
        )
        return {"SearchToken": token}

    @operation(
        "GetEventSearchResults",
        AccessClass.READ_MEDIA,
        request=_RESULTS,
        response={"ResultList": required(search_types.FindEventResultList)},
    )
    async def get_event_search_results(self, call: Call) -> Result:
        state, found = await self._searches.event_results(_token(call), _wish(call))
        results = search_types.FindEventResultList(SearchState=state, Result=map(encode_found_event, found))
        return {"ResultList": results}

    @operation(
        "GetSearchState",
        AccessClass.READ_MEDIA,
        request={"SearchToken": required(ReferenceToken)},
        response={"State": required(words(SearchState))},
    )
    def get_search_state(self, call: Call) -> Result:
        return {"State": self._searches.state(_token(call), call.caller.name)}

    @operation(
        "EndSearch",
        AccessClass.READ_MEDIA,
        request={"SearchToken": required(ReferenceToken)},
        response={"Endpoint": required(UtcTime)},
    )
    def end_search(self, call: Call) -> Result:
        return {"Endpoint": self._searches.end(_token(call), call.caller.name)}


def _token(call: Call) -> SearchToken:
    return SearchToken(call.request.SearchToken)


def _limits(call: Call) -> SearchLimits:
    return SearchLimits(call.request.MaxMatches, call.request.KeepAliveTime, call.caller.name)


def _wish(call: Call) -> SearchWish:
    asked = call.request
    return SearchWish(asked.MinResults, asked.MaxResults, asked.WaitTime, call.caller.name)


def _interval(call: Call) -> SearchInterval:
    return SearchInterval(call.request.StartPoint, call.request.EndPoint)
