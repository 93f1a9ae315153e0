"""The device as a machine: its clock, factory default, restart (ONVIF Core 8.3.6, 8.3.7, 8.3.12, 8.3.13)."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, ClassVar, Protocol

from nvr.control.host_rules import check_time, refuse
from nvr.model.time import NS, UtcNs
from nvr.soap import device_types as types
from nvr.soap.device_user_types import FactoryDefault
from nvr.soap.host_network import HostNetwork
from nvr.soap.model import AnyURI, Boolean, String, optional, required, words
from nvr.soap.service import AccessClass, Call, Result, operation

log = logging.getLogger(__name__)

REBOOT_MESSAGE = "The recorder restarts; it goes on recording within seconds."


class System(Protocol):
    """What the composition root does for the device."""

    def restart(self) -> None:
        """Asks the daemon to stop in order and to start again. Returns at once."""

    async def soft_default(self) -> None:
        """Scopes and discovery mode as on the first day. Raises StorageError."""

    async def hard_default(self, keep_user: str) -> None:
        """Everything as on the first day but this account. Raises StorageError, Refused when it is not allowed."""


class SystemOperations:
    """A part of the device service."""

    _clock: Callable[[], UtcNs]
    _synchronised: Callable[[], bool]
    _time_zone: str
    _network: HostNetwork
    _system: System
    path: ClassVar[str]

    @operation(
        "GetSystemDateAndTime", AccessClass.PRE_AUTH, response={"SystemDateAndTime": required(types.SystemDateTime)}
    )
    def get_system_date_and_time(self, call: Call) -> Result:
        now_s = self._clock() // NS
        local = time.localtime(now_s)
        return {
            "SystemDateAndTime": types.SystemDateTime(
                DateTimeType="NTP" if self._synchronised() else "Manual",
                DaylightSavings=local.tm_isdst > 0,
                TimeZone=types.TimeZone(TZ=self._time_zone),
                UTCDateTime=_date_time(time.gmtime(now_s)),
                LocalDateTime=_date_time(local),
            )
        }

    @operation(
        "SetSystemDateAndTime",
        AccessClass.WRITE_SYSTEM,
        request={
            "DateTimeType": required(words(("Manual", "NTP"), "SetDateTimeType")),
            "DaylightSavings": required(Boolean),
            "TimeZone": optional(types.TimeZone),
            "UTCDateTime": optional(types.DateTime),
        },
    )
    async def set_system_date_and_time(self, call: Call) -> Result:
        request = call.request
        check_time(
            ntp=request.DateTimeType == "NTP",
            zone=request.TimeZone.TZ if request.TimeZone is not None else None,
            date_time=_numbers(request.UTCDateTime),
            ntp_servers=await asyncio.to_thread(self._network.ntp_servers),
        )
        refuse("the clock")

    @operation(
        "SetSystemFactoryDefault", AccessClass.UNRECOVERABLE, request={"FactoryDefault": required(FactoryDefault)}
    )
    async def set_system_factory_default(self, call: Call) -> Result:
        if call.request.FactoryDefault == "Soft":
            log.warning("user %r has set the device to its soft default", call.caller.name)
            await self._system.soft_default()
            return None
        assert call.caller.name is not None, "the access class lets in administrators only"
        await self._system.hard_default(call.caller.name)
        return None

    @operation("SystemReboot", AccessClass.UNRECOVERABLE, response={"Message": required(String)})
    def system_reboot(self, call: Call) -> Result:
        log.warning("user %r has asked for a restart", call.caller.name)
        self._system.restart()
        return {"Message": REBOOT_MESSAGE}

    @operation("GetWsdlUrl", AccessClass.PRE_AUTH, response={"WsdlUrl": required(AnyURI)})
    def get_wsdl_url(self, call: Call) -> Result:
        return {"WsdlUrl": f"{call.origin}{self.path}?wsdl"}


def _date_time(moment: time.struct_time) -> types.DateTime:
    return types.DateTime(
        Time=types.Time(Hour=moment.tm_hour, Minute=moment.tm_min, Second=moment.tm_sec),
        Date=types.Date(Year=moment.tm_year, Month=moment.tm_mon, Day=moment.tm_mday),
    )


def _numbers(told: Any) -> tuple[int, int, int, int, int, int] | None:
    if told is None:
        return None
    date, day = told.Date, told.Time
    return date.Year, date.Month, date.Day, day.Hour, day.Minute, day.Second
