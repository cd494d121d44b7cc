"""Files in and out, on this machine and in object stores, by the same names.

    places     as_place("s3://…"), stamps, listings      publish   written aside, published whole
    transfer   ranges in, files out, tried again         records   sealed JSON
    mirror     objects as files of this machine          hold      one run at a time
    faults     what storage refuses, in a sentence       tries     how often, and for how long, a store is asked
    tables     Parquet and Arrow, here and there         scratch   this machine's own folder for objects

Who calls these does not ask which kind of place it has.
"""

from mixture.storage.faults import Place, explain, is_refusal, refusals
from mixture.storage.hold import only_run
from mixture.storage.mirror import Mirror, local, mirror, need, prefetch
from mixture.storage.places import (
    as_place,
    below,
    check_bucket,
    each,
    exists,
    files_in,
    in_order,
    is_folder,
    is_remote,
    make_folder,
    matches,
    read_bytes,
    remove_folder,
    size_of,
    spill,
    stamp,
    workbench,
)
from mixture.storage.publish import HashingWriter, publish
from mixture.storage.records import SEAL, read_json, read_record, unsealed, write_json
from mixture.storage.scratch import scratch
from mixture.storage.transfer import file_digest, open_raw, open_read, read_ahead, remove

__all__ = [
    "SEAL",
    "HashingWriter",
    "Mirror",
    "Place",
    "as_place",
    "below",
    "check_bucket",
    "each",
    "exists",
    "explain",
    "file_digest",
    "files_in",
    "in_order",
    "is_folder",
    "is_refusal",
    "is_remote",
    "local",
    "make_folder",
    "matches",
    "mirror",
    "need",
    "only_run",
    "open_raw",
    "open_read",
    "prefetch",
    "publish",
    "read_ahead",
    "read_bytes",
    "read_json",
    "read_record",
    "refusals",
    "remove",
    "remove_folder",
    "scratch",
    "size_of",
    "spill",
    "stamp",
    "unsealed",
    "workbench",
    "write_json",
]
