"""Where the fuzzing begins: streams with each type of packet, and what is almost one.

An input's first byte says how the rest is read (see `claims`); the streams here are the rest, as it goes over the wire.
"""

import struct

#: (type, arguments) of each packet that either side of a Gearman connection may send
PACKETS: dict[str, tuple[int, tuple[bytes, ...]]] = {
    "can_do": (1, (b"work",)),
    "cant_do": (2, (b"work",)),
    "reset_abilities": (3, ()),
    "pre_sleep": (4, ()),
    "noop": (6, ()),
    "submit_job": (7, (b"work", b"unique", b"payload")),
    "job_created": (8, (b"H:0",)),
    "grab_job": (9, ()),
    "no_job": (10, ()),
    "job_assign": (11, (b"H:0", b"work", b"payload")),
    "work_status": (12, (b"H:0", b"1", b"2")),
    "work_complete": (13, (b"H:0", b"result")),
    "work_fail": (14, (b"H:0",)),
    "get_status": (15, (b"H:0",)),
    "echo_req": (16, (b"echo",)),
    "echo_res": (17, (b"echo",)),
    "submit_job_bg": (18, (b"work", b"", b"payload\0with NULs\0")),
    "error": (19, (b"code", b"A sentence.")),
    "status_res": (20, (b"H:0", b"1", b"1", b"0", b"0")),
    "submit_job_high": (21, (b"work", b"unique", b"payload")),
    "set_client_id": (22, (b"client",)),
    "can_do_timeout": (23, (b"work", b"10")),
    "all_yours": (24, ()),
    "work_exception": (25, (b"H:0", b"text")),
    "option_req": (26, (b"exceptions",)),
    "option_res": (27, (b"exceptions",)),
    "work_data": (28, (b"H:0", b"data")),
    "work_warning": (29, (b"H:0", b"warning")),
    "grab_job_uniq": (30, ()),
    "job_assign_uniq": (31, (b"H:0", b"work", b"unique", b"payload")),
    "submit_job_high_bg": (32, (b"work", b"-", b"payload")),
    "submit_job_low": (33, (b"work", b"unique", b"payload")),
    "submit_job_low_bg": (34, (b"work", b"u" * 65, b"payload")),
    "submit_job_sched": (35, (b"work", b"unique", b"1", b"1", b"1", b"1", b"1", b"payload")),
    "submit_job_epoch": (36, (b"work", b"unique", b"1000", b"payload")),
    "get_status_unique": (41, (b"unique",)),
    "status_res_unique": (42, (b"unique", b"1", b"1", b"0", b"0", b"1")),
}


def packet(kind: int, body: bytes, magic: bytes) -> bytes:
    """One packet."""
    return struct.pack(">4sII", magic, kind, len(body)) + body


def _streams() -> dict[str, bytes]:
    made: dict[str, bytes] = {}
    for name, (kind, arguments) in PACKETS.items():
        for magic in (b"\0REQ", b"\0RES"):
            made[f"{magic[1:].decode().lower()}_{name}"] = packet(kind, b"\0".join(arguments), magic)
    made |= {
        "nothing": b"",
        "half_a_header": b"\0REQ\0\0",
        "half_a_body": packet(18, b"work\0\0payload", b"\0REQ")[:-3],
        "bad_magic": b"\0BAD" + bytes(8),
        "four_gib": b"\0REQ" + struct.pack(">II", 18, 0xFFFFFFFF),
        "over_the_limit": b"\0RES" + struct.pack(">II", 13, 64 * 1024 * 1024 + 1),
        "at_the_limit": b"\0RES" + struct.pack(">II", 13, 64 * 1024 * 1024) + b"H:0\0begins",
        "unknown_type": packet(0x7FFFFFFF, b"body", b"\0REQ"),
        "oversize_payload": packet(18, b"work\0\0" + bytes(900), b"\0REQ") + packet(16, b"after", b"\0REQ"),
        "oversize_result": packet(13, b"H:0\0" + bytes(9000), b"\0RES") + packet(6, b"", b"\0RES"),
        "no_arguments": packet(18, b"work", b"\0REQ"),
        "bad_function": packet(18, b"wo rk\0\0payload", b"\0REQ"),
        "lines": b"status\r\nversion\nworkers\nprioritystatus\nshutdown\n\n",
        "long_line": b"x" * 5000,
        "line_and_packet": b"version\n" + packet(16, b"echo", b"\0REQ") + b"status\n",
        "life_of_a_link": packet(27, b"exceptions", b"\0RES")
        + packet(20, b"H:0\x000\x000\x000\x000", b"\0RES")
        + b"".join(packet(8, b"H:%d" % n, b"\0RES") for n in range(3))
        + packet(20, b"H:0\x000\x000\x000\x000", b"\0RES")
        + packet(13, b"H:1\0done", b"\0RES")
        + packet(14, b"H:0", b"\0RES")
        + packet(25, b"H:2\0text", b"\0RES"),
        "early_end": packet(20, b"H:0\x000\x000\x000\x000", b"\0RES")
        + packet(13, b"H:0\0", b"\0RES")
        + packet(8, b"H:0", b"\0RES"),
    }
    return made


STREAMS = _streams()
