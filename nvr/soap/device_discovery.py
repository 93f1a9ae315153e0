"""What the device is found by: scopes, discovery mode, endpoint reference (ONVIF Core 7.3, 8.3.14 to 8.3.21)."""

from __future__ import annotations

from uuid import UUID

from nvr.control.device import DeviceMemory
from nvr.soap.device_types import Scope
from nvr.soap.device_user_types import Discovery
from nvr.soap.model import AnyURI, String, many, required
from nvr.soap.service import AccessClass, Call, Result, operation


class DiscoveryOperations:
    """A part of the device service."""

    _memory: DeviceMemory
    _endpoint: UUID

    @operation("GetScopes", AccessClass.READ_SYSTEM, response={"Scopes": many(Scope, at_least=1)})
    def get_scopes(self, call: Call) -> Result:
        fixed = [Scope(ScopeDef="Fixed", ScopeItem=scope) for scope in self._memory.fixed_scopes]
        free = [Scope(ScopeDef="Configurable", ScopeItem=scope) for scope in self._memory.configurable_scopes]
        return {"Scopes": [*fixed, *free]}

    @operation("SetScopes", AccessClass.WRITE_SYSTEM, request={"Scopes": many(AnyURI, at_least=1)})
    async def set_scopes(self, call: Call) -> Result:
        await self._memory.set_scopes(call.request.Scopes)
        return None

    @operation("AddScopes", AccessClass.WRITE_SYSTEM, request={"ScopeItem": many(AnyURI, at_least=1)})
    async def add_scopes(self, call: Call) -> Result:
        await self._memory.add_scopes(call.request.ScopeItem)
        return None

    @operation(
        "RemoveScopes",
        AccessClass.WRITE_SYSTEM,
        request={"ScopeItem": many(AnyURI, at_least=1)},
        response={"ScopeItem": many(AnyURI)},
    )
    async def remove_scopes(self, call: Call) -> Result:
        return {"ScopeItem": await self._memory.remove_scopes(call.request.ScopeItem)}

    @operation("GetDiscoveryMode", AccessClass.READ_SYSTEM, response={"DiscoveryMode": required(Discovery)})
    def get_discovery_mode(self, call: Call) -> Result:
        return {"DiscoveryMode": self._memory.discovery_mode}

    @operation("SetDiscoveryMode", AccessClass.WRITE_SYSTEM, request={"DiscoveryMode": required(Discovery)})
    async def set_discovery_mode(self, call: Call) -> Result:
        await self._memory.set_discovery_mode(call.request.DiscoveryMode)
        return None

    @operation("GetEndpointReference", AccessClass.PRE_AUTH, response={"GUID": required(String)})
    def get_endpoint_reference(self, call: Call) -> Result:
        return {"GUID": self._endpoint.urn}
