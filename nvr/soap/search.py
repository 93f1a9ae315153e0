"""The recording search service (IEC 62676-2-32 clause 6)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, TypeVar

from nvr.model import xpath
from nvr.model.ptz import PtzFilter
from nvr.model.search import (
    EventFilter,
    FoundEvent,
    FoundMetadata,
    FoundPosition,
    MediaAttributes,
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
from nvr.soap.model import (
    Boolean,
    Duration,
    Int,
    ReferenceToken,
    Struct,
    UtcTime,
    WireType,
    attribute,
    many,
    optional,
    required,
    words,
)
from nvr.soap.names import TSE
from nvr.soap.search_wire import (
    decode_event_filter,
    decode_ptz_filter,
    decode_scope,
    encode_found_event,
    encode_found_metadata,
    encode_found_position,
    encode_information,
    encode_media_attributes,
)
from nvr.soap.service import AccessClass, Call, Result, Service, operation


class Searches(Protocol):
    """What this service needs of nvr.search; errors are those of nvr.model.errors."""

    async def summary(self, user: str | None = None) -> RecordingSummary: ...
    def information(self, token: RecordingToken) -> RecordingInformation: ...
    def find_recordings(self, scope: SearchScope, limits: SearchLimits) -> SearchToken: ...
    async def find_events(
        self, interval: SearchInterval, scope: SearchScope, wanted: EventFilter, start_state: bool, limits: SearchLimits
    ) -> SearchToken: ...
    async def recording_results(
        self, token: SearchToken, wish: SearchWish
    ) -> tuple[SearchState, Sequence[RecordingInformation]]: ...
    async def event_results(self, token: SearchToken, wish: SearchWish) -> tuple[SearchState, Sequence[FoundEvent]]: ...
    async def find_positions(
        self, interval: SearchInterval, scope: SearchScope, wanted: PtzFilter, limits: SearchLimits
    ) -> SearchToken: ...
    async def position_results(
        self, token: SearchToken, wish: SearchWish
    ) -> tuple[SearchState, Sequence[FoundPosition]]: ...
    async def find_metadata(
        self, interval: SearchInterval, scope: SearchScope, wanted: xpath.Expression, limits: SearchLimits
    ) -> SearchToken: ...
    async def metadata_results(
        self, token: SearchToken, wish: SearchWish
    ) -> tuple[SearchState, Sequence[FoundMetadata]]: ...
    async def media_attributes(
        self, tokens: Sequence[RecordingToken], at_ns: UtcNs, user: str | None = None
    ) -> Sequence[MediaAttributes]: ...
    def state(self, token: SearchToken, user: str | None = None) -> SearchState: ...
    def end(self, token: SearchToken, user: str | None = None) -> UtcNs: ...


_Handler = TypeVar("_Handler", bound=Callable[..., Any])

_SESSION = {"MaxMatches": optional(Int), "KeepAliveTime": required(Duration)}
"""What every Find operation ends with."""
_INTERVAL = {"StartPoint": required(UtcTime), "EndPoint": optional(UtcTime), "Scope": required(types.SearchScope)}
_RESULTS = {
    "SearchToken": required(ReferenceToken),
    "MinResults": optional(Int),
    "MaxResults": optional(Int),
    "WaitTime": optional(Duration),
}


def _find(name: str, **asked: WireType) -> Callable[[_Handler], _Handler]:
    found = {"SearchToken": required(ReferenceToken)}
    return operation(name, AccessClass.READ_MEDIA, request={**asked, **_SESSION}, response=found)


def _results(name: str, listed: type[Struct]) -> Callable[[_Handler], _Handler]:
    return operation(name, AccessClass.READ_MEDIA, request=_RESULTS, response={"ResultList": required(listed)})


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

    def __init__(self, searches: Searches) -> None:
        self._searches = searches

    def capabilities(self) -> Capabilities:
        return Capabilities(MetadataSearch=True, GeneralStartEvents=True)

    @operation("GetServiceCapabilities", AccessClass.PRE_AUTH, response={"Capabilities": required(Capabilities)})
    def get_service_capabilities(self, _: Call) -> Result:
        return {"Capabilities": self.capabilities()}

    @operation("GetRecordingSummary", AccessClass.READ_MEDIA, response={"Summary": required(types.RecordingSummary)})
    async def get_recording_summary(self, call: Call) -> Result:
        summary = await self._searches.summary(call.caller.name)
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
        "GetMediaAttributes",
        AccessClass.READ_MEDIA,
        request={"RecordingTokens": many(ReferenceToken), "Time": required(UtcTime)},
        response={"MediaAttributes": many(search_types.MediaAttributes)},
    )
    async def get_media_attributes(self, call: Call) -> Result:
        tokens = [RecordingToken(token) for token in call.request.RecordingTokens]
        found = await self._searches.media_attributes(tokens, call.request.Time, call.caller.name)
        return {"MediaAttributes": map(encode_media_attributes, found)}

    @_find("FindRecordings", Scope=required(types.SearchScope))
    def find_recordings(self, call: Call) -> Result:
        scope = decode_scope(call.request.Scope)
        return {"SearchToken": self._searches.find_recordings(scope, _limits(call))}

    @_results("GetRecordingSearchResults", types.FindRecordingResultList)
    async def get_recording_search_results(self, call: Call) -> Result:
        state, found = await self._searches.recording_results(_token(call), _wish(call))
        information = map(encode_information, found)
        return {"ResultList": types.FindRecordingResultList(SearchState=state, RecordingInformation=information)}

    @_find(
        "FindEvents",
        **_INTERVAL,
        SearchFilter=required(search_types.EventFilter),
        IncludeStartState=required(Boolean),
    )
    async def find_events(self, call: Call) -> Result:
        interval, scope = _interval(call), decode_scope(call.request.Scope)
        wanted, start_state = decode_event_filter(call.request.SearchFilter), call.request.IncludeStartState
        return {"SearchToken": await self._searches.find_events(interval, scope, wanted, start_state, _limits(call))}

    @_results("GetEventSearchResults", search_types.FindEventResultList)
    async def get_event_search_results(self, call: Call) -> Result:
        state, found = await self._searches.event_results(_token(call), _wish(call))
        return _listed(search_types.FindEventResultList, state, map(encode_found_event, found))

    @_find("FindPTZPosition", **_INTERVAL, SearchFilter=required(search_types.PTZPositionFilter))
    async def find_ptz_position(self, call: Call) -> Result:
        scope, wanted = decode_scope(call.request.Scope), decode_ptz_filter(call.request.SearchFilter)
        return {"SearchToken": await self._searches.find_positions(_interval(call), scope, wanted, _limits(call))}

    @_results("GetPTZPositionSearchResults", search_types.FindPTZPositionResultList)
    async def get_ptz_position_search_results(self, call: Call) -> Result:
        state, found = await self._searches.position_results(_token(call), _wish(call))
        return _listed(search_types.FindPTZPositionResultList, state, map(encode_found_position, found))

    @_find("FindMetadata", **_INTERVAL, MetadataFilter=required(search_types.MetadataFilter))
    async def find_metadata(self, call: Call) -> Result:
        scope = decode_scope(call.request.Scope)
        wanted = xpath.parse(call.request.MetadataFilter.MetadataStreamFilter)
        return {"SearchToken": await self._searches.find_metadata(_interval(call), scope, wanted, _limits(call))}

    @_results("GetMetadataSearchResults", search_types.FindMetadataResultList)
    async def get_metadata_search_results(self, call: Call) -> Result:
        state, found = await self._searches.metadata_results(_token(call), _wish(call))
        return _listed(search_types.FindMetadataResultList, state, map(encode_found_metadata, found))

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


def _listed(listed: type[Struct], state: SearchState, found: Iterable[Struct]) -> Result:
    return {"ResultList": listed(SearchState=state, Result=found)}


def _token(call: Call) -> SearchToken:
    return SearchToken(call.request.SearchToken)


def _limits(call: Call) -> SearchLimits:
    return SearchLimits(call.request.MaxMatches, call.request.KeepAliveTime, call.caller.name)


def _wish(call: Call) -> SearchWish:
    asked = call.request
    return SearchWish(asked.MinResults, asked.MaxResults, asked.WaitTime, call.caller.name)


def _interval(call: Call) -> SearchInterval:
    return SearchInterval(call.request.StartPoint, call.request.EndPoint)
