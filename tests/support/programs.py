"""Programs that a test starts and waits for."""

from __future__ import annotations

import asyncio


async def run(*command: str) -> str:
    """What a program says on both of its outputs. Raises TimeoutError when it does not end by itself."""
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        async with asyncio.timeout(60):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return output.decode(errors="replace")
