"""`segexplorer cache`: the prepared cases that all runs share: how much there is, a limit, and room."""

from __future__ import annotations

import re
import time
from typing import Literal

from rich.table import Table

from segexplorer.core.errors import SpecError
from segexplorer.core.untrusted_files import size_text
from segexplorer.frontends.cli.terminal import print_json, remarks, results

Action = Literal["size", "list", "clear", "limit"]
_UNITS = {"": 2**30, "MB": 10**6, "GB": 10**9, "TB": 10**12, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
_AMOUNT = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)")


def run_cache(
    action: Action, amount: str | None, folder: str | None, unused_days: float, *, as_json: bool
) -> None:
    """Print the size of the cache, list it, clear it, or set its limit.

    Parameters
    ----------
    amount
        Of the limit, e.g. "200GB"; "none" for half of the disk.
    folder
        The cache folder; None for the one that runs use by default.
    unused_days
        Entries that were used since are not cleared.

    Raises
    ------
    SpecError
        When the amount is none, or missing.
    """
    from segexplorer.data.cache_folder import CaseCache, base_folder
    from segexplorer.data.remembered import forget

    base = base_folder(folder)
    cache = CaseCache(base)
    if amount is not None and action != "limit":
        raise SpecError(
            f"segexplorer cache {action} takes no amount.",
            "To set one, write it like: segexplorer cache limit 200GB",
        )
    if action == "clear":
        count, nbytes = cache.clear(unused_days=unused_days)
        if not unused_days and folder is None:
            forget()
        remarks().print(
            f"Deleted {count} files, {size_text(nbytes)}, of {base}.", markup=False, soft_wrap=True
        )
        return
    if action == "limit":
        if amount is None:
            raise SpecError("The limit is missing.", "Write it like: segexplorer cache limit 200GB")
        cache.set_limit(None if amount.lower() == "none" else _bytes(amount))
    entries, limit = cache.entries(), cache.limit
    taken = sum(entry.nbytes for entry in entries)
    used = [entry for entry in entries if entry.in_use]
    if as_json:
        facts = [{"key": e.key, "bytes": e.nbytes, "used": e.used, "in_use": e.in_use} for e in entries]
        print_json(
            {
                "folder": str(base),
                "bytes": taken,
                "limit": limit,
                "limit_set": cache.given_limit is not None,
                "count": len(entries),
                "in_use": len(used),
                **({"entries": facts} if action == "list" else {}),
            }
        )
        return
    if action == "list":
        table = Table("Entry", "Size", "Last used", "In use", box=None)
        for entry in reversed(entries):
            when = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.used))
            table.add_row(entry.key, size_text(entry.nbytes), when, "yes" if entry.in_use else "")
        results().print(table)
    why = "set for this folder" if cache.given_limit is not None else "half of the disk"
    summary = (
        f"{len(entries)} files, {size_text(taken)} of at most {size_text(limit)} ({why}), {len(used)} in use"
    )
    results().print(f"{base}: {summary}", markup=False, soft_wrap=True)


def _bytes(amount: str) -> int:
    found = _AMOUNT.fullmatch(amount.strip())
    if found is None or found[2].upper() not in _UNITS:
        raise SpecError(f"{amount!r} is no amount of storage.", "Write it like 200GB, 1.5TB or 500MB.")
    return int(float(found[1]) * _UNITS[found[2].upper()])
