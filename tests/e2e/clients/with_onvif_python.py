"""Drives a recorder through onvif-python: `python with_onvif_python.py HOST PORT USER digest|token [events|timeline]`.

The password comes on standard input. What was found goes to standard output as one JSON object.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from lxml import etree
from onvif import CacheMode, ONVIFClient

ITEM = "{http://www.onvif.org/ver10/schema}SimpleItem"
SETUP = {"Stream": "RTP-Unicast", "Transport": {"Protocol": "RTSP"}}


def item(element: Any) -> str:
    return f"{element.get('Name')}={element.get('Value')}"


def main() -> None:
    host, port, user, kind, *more = sys.argv[1:]
    client = ONVIFClient(
        host, int(port), user, sys.stdin.read(), http_digest=kind == "digest", cache=CacheMode.NONE, apply_patch=False
    )
    found: dict[str, object] = {}
    recordings = client.recording().GetRecordings()
    found["recordings"] = [r.RecordingToken for r in recordings]
    found["tracks"] = [t.TrackToken for t in recordings[0].Tracks.Track]
    search = client.search()
    token = search.FindRecordings(Scope={}, KeepAliveTime="PT10S")
    informations: list[Any] = []
    while found.get("state") != "Completed":
        results = search.GetRecordingSearchResults(SearchToken=token, MinResults=1, MaxResults=10, WaitTime="PT5S")
        informations += results.RecordingInformation
        found["state"] = results.SearchState
    found["found"] = [r.RecordingToken for r in informations]
    found["seconds"] = [(r.LatestRecording - r.EarliestRecording).total_seconds() for r in informations]
    found["uri"] = client.replay().GetReplayUri(StreamSetup=SETUP, RecordingToken=recordings[0].RecordingToken)
    if more == ["events"]:
        subscription = client.events().CreatePullPointSubscription()
        pulled = client.pullpoint(subscription).PullMessages(Timeout="PT5S", MessageLimit=100)
        # The topic itself is lost here: zeep keeps no text of an element that the schema lets hold others beside it.
        messages = [m.Message._value_1 for m in pulled.NotificationMessage]
        found["messages"] = [[message.get("PropertyOperation"), *map(item, message.iter(ITEM))] for message in messages]
        client.subscription(subscription).Unsubscribe()
    if more == ["timeline"]:
        found["timeline"] = [walked(search, *ends) for ends in ((EARLY, LATE), (LATE, EARLY))]
    print(json.dumps(found))


EARLY, LATE = "2000-01-01T00:00:00Z", "2100-01-01T00:00:00Z"


def walked(search: Any, start: str, end: str) -> list[list[str]]:
    """The history from one end to the other, three events at a time: time, token of the track, last item."""
    topic = etree.fromstring(
        '<wsnt:TopicExpression xmlns:wsnt="http://docs.oasis-open.org/wsn/b-2" '
        'xmlns:tns1="http://www.onvif.org/ver10/topics" '
        'Dialect="http://www.onvif.org/ver10/tev/topicExpression/ConcreteSet">tns1:RecordingHistory//.'
        "</wsnt:TopicExpression>"
    )
    token = search.FindEvents(
        StartPoint=start,
        EndPoint=end,
        Scope={},
        SearchFilter={"_value_1": [topic]},
        IncludeStartState=False,
        KeepAliveTime="PT10S",
    )
    events: list[list[str]] = []
    while True:
        results = search.GetEventSearchResults(SearchToken=token, MinResults=1, MaxResults=3, WaitTime="PT5S")
        for result in results.Result:
            last = result.Event.Message._value_1.Data.SimpleItem[-1]
            events.append([result.Time.isoformat(), result.TrackToken or "", f"{last.Name}={last.Value}"])
        if results.SearchState == "Completed":
            return events


if __name__ == "__main__":
    main()
