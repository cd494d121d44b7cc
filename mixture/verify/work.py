"""What of a work directory belongs to a lock: its token store, its index, its plans.

    lock.work ──►  plans    plan.json    says size and hash of each slice
                   related  related.json says size and hash of each block's paths, where a recipe relates documents
                   index    index.json   says size and hash of index.parquet, and names the parts
                   store    a record for each part says size and hash of its tokens and its documents,
                            a mark for each task those of its columns

Records are read and held to their seals, to each other and to the lock here; what they say of files is returned, for
tasks to check. A room that is not there as a whole is said, not failed: a work directory may be passed on without it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from mixture.hashing import fingerprint
from mixture.lockfile import Lock
from mixture.related.block import record_path
from mixture.storage import Place, exists, files_in, in_order, is_folder, matches
from mixture.tokens.chunks import done_mark
from mixture.tokens.ingest import read_mismatch
from mixture.tokens.join_rows import bucket_file
from mixture.tokens.members import members_file, rows_file
from mixture.tokens.store import PartFiles
from mixture.verify.files import FileFact, Records, fact
from mixture.verify.findings import Finding, Kind
from mixture.workspace import Workspace

_MARK = re.compile(r"done-(\d+)-of-(\d+)(?:\.columns-([0-9a-f]+))?\.json")


@dataclass
class Room:
    """One room of a work directory, as far as its records tell.

    Attributes:
        files: what its files must be.
        findings: what is wrong with its records.
        absent: a sentence, if it is not there.
        records: records read.
        bytes: their bytes.
        parts: of an index: the names of the store's parts; None if it cannot tell.
        columns: of an index: the key of the columns of each unit that has any.
    """

    files: list[FileFact] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    absent: str = ""
    records: int = 0
    bytes: int = 0
    parts: list[str] | None = None
    columns: dict[str, str] = field(default_factory=dict)

    def close(self, records: Records) -> Room:
        """Take over what was found while records were read."""
        self.findings += records.findings
        self.records, self.bytes = self.records + records.read, self.bytes + records.bytes
        return self


def rooms(lock: Lock, workspace: Workspace) -> Iterator[Room]:
    """Yield every room of a work directory that a lock was made from."""
    for number, name in enumerate(lock.work.get("plans", ())):
        yield plan(lock, number, workspace.plans / name)
    if name := lock.work.get("related"):
        yield related(lock, workspace.related(name))
    told = index(lock, workspace.index(lock.work.get("index", "")))
    yield told
    yield store(workspace.store(lock.work.get("store", "")), told)
    for key in lock.work.get("joined", ()):
        yield joined(workspace.joined(key))
    yield _inputs(workspace.seen_inputs)


def _absent(kind: Kind, folder: Place) -> Room:
    return Room(absent=f"{kind}: not here ({folder}), not checked")


def plan(lock: Lock, phase: int, folder: Place) -> Room:
    """Read one phase's plan."""
    if not is_folder(folder):
        return _absent("plan", folder)
    room, records = Room(), Records("plan")
    digest = lock.phases[phase]["stream"]["digest"]
    record = records.mapping(folder / "plan.json", key=folder.name, digest=digest)
    for name, written in (record or {}).get("files", {}).items():
        group = f"{folder.name}/{name}" if name.startswith("slice-") else ""
        room.files.append(fact("plan", folder / name, written, group))
    return room.close(records)


def index(lock: Lock, folder: Place) -> Room:
    """Read the index, with its census, the names of the parts, and the weights beside it."""
    if not is_folder(folder):
        return _absent("index", folder)
    room, records = Room(), Records("index")
    said = {"documents": "indexed", "tokens": "tokens", "duplicates": "duplicates", "digest": "digest"}
    expected = {name: lock.documents[other] for name, other in said.items()}
    record = records.mapping(folder / "index.json", key=folder.name, **expected)
    if record is not None:
        room.files.append(fact("index", folder / "index.parquet", record["file"]))
        room.files.append(fact("index", folder / "stretches.parquet", record["stretches"]))
        room.columns = record["columns"]
    for name in ("parts", "census"):
        path = folder / f"{name}.json"
        value = records.value(path)
        if value is None:
            continue
        if record is not None and fingerprint(value) != record[name]:
            records.blame(path, f"{path}: it is not the one that index.json beside it names; remove both and run again")
        elif name == "parts":
            room.parts = list(value)
    if weights := lock.work.get("weights"):
        held = records.mapping(folder / f"{weights}.json")
        if held is not None and "file" in held:
            room.files.append(fact("index", folder / f"{weights}.arrow", held["file"]))
    return room.close(records)


def related(lock: Lock, folder: Place) -> Room:
    """Read which documents are related."""
    if not is_folder(folder):
        return _absent("relations", folder)
    room, records = Room(), Records("relations")
    record = records.mapping(folder / "related.json", key=folder.name, digest=lock.documents["related"]["digest"])
    for name, written in (record or {}).get("files", {}).items():
        records.mapping(record_path(folder / name), size=written[0], hash=written[1])
        room.files.append(fact("relations", folder / name, written, f"{folder.name}/{name}"))
    return room.close(records)


def store(folder: Place, told: Room) -> Room:
    """Read the records of the store's parts.

    Args:
        folder: the tokenizer's.
        told: the index, which names the parts; where it cannot, all parts in the folder are read.
    """
    if not is_folder(folder):
        return _absent("store", folder)
    room, records = Room(), Records("store")
    names = told.parts
    if names is None:
        found = in_order(matches(folder, "*/part-*.json"))
        names = [f"{path.parent.name}/{path.stem.removeprefix('part-')}" for path in found]
        room.absent = "store: the index does not say which parts there are, so a missing one is not found"
    for name in names:
        unit, _, number = name.partition("/")
        files = PartFiles(folder / unit, int(number))
        record = records.mapping(files.record, part=name)
        if record is not None:
            room.files.append(FileFact("store", files.tokens, record["size"], record["hash"], name))
            room.files.append(fact("store", files.documents, record["documents_file"], name))
    for unit in dict.fromkeys(name.partition("/")[0] for name in names):
        room.files += _columns(folder / unit, told.columns.get(unit, ""), records)
    records.mapping(folder / "proof.json", store=folder.name)
    if folder.name.endswith("-reference"):
        records.value(folder.with_name(folder.name.removesuffix("-reference")) / "mismatch.json", read_mismatch)
    return room.close(records)


def _columns(folder: Place, columns: str, records: Records) -> Iterator[FileFact]:
    """Read the marks of a unit's tasks; yield what they say of the files of columns."""
    marks = [match for name in sorted(files_in(folder)) if (match := _MARK.fullmatch(name))]
    for key in dict.fromkeys(["", columns]):
        steps = sorted({int(match[2]) for match in marks if (match[3] or "") == key}) or [1]
        for path in (done_mark(folder, start, step, key) for step in steps for start in range(step)):
            mark = records.mapping(path, unit=folder.name)
            for name, written in (mark or {}).get("files", {}).items():
                part = name.removeprefix("part-").partition(".")[0]
                yield fact("store", folder / name, written, f"{folder.name}/{part}")


def joined(folder: Place) -> Room:
    """Read the record of documents that were joined from many rows."""
    if not is_folder(folder):
        return Room(absent=f"store: joined documents are not here ({folder}), not checked")
    room, records = Room(), Records("store")
    record = records.mapping(folder / "joined.json", key=folder.name)
    for number in range((record or {}).get("of", 0)):
        records.mapping(bucket_file(folder, number).with_suffix(".json"))
    for bucket in (record or {}).get("buckets", ()):
        path = folder / bucket["name"]
        group = f"{folder.name}/{bucket['name']}"
        room.files.append(FileFact("store", path, bucket["size"], bucket["hash"], group))
        room.files.append(fact("store", members_file(path), bucket["members"], group))
    if record is not None:
        room.files.append(fact("store", rows_file(folder), record["rows_file"]))
    return room.close(records)


def _inputs(path: Place) -> Room:
    """Read what is remembered of input files; without it they are hashed again."""
    records = Records("store")
    if exists(path):
        records.mapping(path)
    return Room().close(records)
