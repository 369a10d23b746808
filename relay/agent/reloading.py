"""Which options a reload finds changed that are read at the start only.  Pure: two settings in, names out."""

from __future__ import annotations

from dataclasses import fields

from relay.settings import Settings

#: group -> the options of it that need a restart; of the others none does
_FIXED = {"intake": None, "control": None, "spool": ("path",)}


def needing_restart(running: Settings, new: Settings) -> list[str]:
    """The options, each as `[group] option`, that are other in `new` and stay as they were until a restart."""
    found = []
    for group, options in _FIXED.items():
        before, after = getattr(running, group), getattr(new, group)
        names = [one.name for one in fields(before)] if options is None else options
        found += [f"[{group}] {name}" for name in names if getattr(before, name) != getattr(after, name)]
    return found
