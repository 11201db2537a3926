"""The tail holds what it was given, whenever the process dies: between two writes, and in the middle of one."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import itertools
import os
import tempfile
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn, cast

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from edge.errors import JournalError
from edge.journal import tail as tail_module
from edge.journal.tail import HEADER_BYTES, NOTE_START, SLOT_BYTES, Held, Tail, tail_path

SLOTS = 5
EXAMPLES, STEPS = 110, 50
STEPS_LEAST = 4_000
NOTHING = Held(0, 0, True, b"", (), (), 0)
WORD = 8
HEAD_WORDS = ("magic", "version", "slots", "ring", "epoch", "head seq", "head", "tail", "ended", "note")


@pytest.fixture(scope="module", autouse=True)
def _few_slots() -> Iterator[None]:
    """Room for few open triggers, so that it is exhausted often and a tail is small."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tail_module, "SLOT_COUNT", SLOTS)
        yield


def filling(seed: int, length: int) -> bytes:
    """Bytes without a zero that no other seed gives."""
    digest = hashlib.sha256(str(seed).encode()).digest()
    return (digest * (length // len(digest) + 1))[:length].replace(b"\x00", b"\x01")


def held_by(path: Path) -> Held:
    """What a process finds that opens this file."""
    tail = Tail(path, 4096)
    try:
        assert tail.set_aside is None
        return tail.held()
    finally:
        tail.close()


class Watched:
    """A view of the tail's memory that notes every store."""

    def __init__(self, view: memoryview, item_bytes: int, stores: list[tuple[int, bytes]]) -> None:
        self._view, self._item_bytes, self._stores = view, item_bytes, stores

    def __getitem__(self, key: int | slice) -> object:
        return self._view[key]

    def __setitem__(self, key: int | slice, value: int | bytes) -> None:
        start = key if isinstance(key, int) else key.start
        data = value.to_bytes(self._item_bytes, "little") if isinstance(value, int) else bytes(value)
        self._stores.append((start * self._item_bytes, data))
        self._view[key] = value  # type: ignore[index, assignment]

    def release(self) -> None:
        self._view.release()


def watch(tail: Tail) -> list[tuple[int, bytes]]:
    """Note from now on what the tail stores, and where in its file."""
    stores: list[tuple[int, bytes]] = []
    tail._view = cast(memoryview, Watched(tail._view, 1, stores))
    tail._words = cast("memoryview[int]", Watched(tail._words, WORD, stores))
    return stores


def torn(before: bytes, stores: list[tuple[int, bytes]], whole: int, part: int) -> bytes:
    """The file after so many whole stores and a part of the next. A word is stored whole or not at all."""
    image = bytearray(before)
    for at, data in stores[:whole]:
        image[at : at + len(data)] = data
    if whole < len(stores) and len(stores[whole][1]) > WORD:
        at, data = stores[whole]
        image[at : at + part] = data[:part]
    return bytes(image)


class AnyDeath(RuleBasedStateMachine):
    """Everything is written in any order, and the process dies at any moment of each write."""

    steps = 0

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.names = (Path(self.folder.name) / f"{n}.tail" for n in itertools.count())
        self.model = NOTHING
        self.serial = 0

    @initialize(ring_bytes=st.sampled_from([64, 512, 4096 + 8, 16384]))
    def a_station_starts(self, ring_bytes: int) -> None:
        self._open(next(self.names), ring_bytes)
        AnyDeath.steps -= 1

    def _open(self, path: Path, ring_bytes: int) -> None:
        self.path = path
        self.tail = Tail(path, ring_bytes)
        self.stores = watch(self.tail)

    def _write(self, data: st.DataObject, write: Callable[[], None], after: Held, *between: Held) -> None:
        """Write, then see what a process finds that comes after one which died in the middle of it."""
        before = self.path.read_bytes()
        self.stores.clear()
        write()
        whole = data.draw(st.integers(0, len(self.stores)))
        length = len(self.stores[whole][1]) if whole < len(self.stores) else 0
        part = data.draw(st.integers(0, length))
        beside = next(self.names)
        beside.write_bytes(torn(before, self.stores, whole, part))
        found = held_by(beside)
        beside.unlink()
        assert found in (self.model, *between, after)
        self.model = after

    @rule(data=st.data(), length=st.integers(0, 3000), seq=st.integers(1, 2**53 - 1))
    def a_verdict_comes(self, data: st.DataObject, length: int, seq: int) -> None:
        self.serial += 1
        record = filling(self.serial, length)
        if not self.tail.fits(length):
            assert not self._must_fit(length)
            with pytest.raises(ValueError, match="full"):
                self.tail.append(record, seq)
            return
        end = self.tail._start_of(length) + padded(length)
        assert not self.model.records or end > self.model.records[-1][0]
        # Until its own word is written the head is told by the record itself.
        within = dataclasses.replace(self.model, records=(*self.model.records, (end, record)))

        def write() -> None:
            assert self.tail.append(record, seq) == end

        self._write(data, write, dataclasses.replace(within, head_seq=seq), within)

    def _must_fit(self, length: int) -> bool:
        """At most one gap is left at the ring's end, and it is smaller than the record that did not fit there."""
        sizes = [padded(len(record)) for _, record in self.model.records] + [padded(length)]
        return sum(sizes) + max(sizes) <= self.tail.ring_bytes

    @precondition(lambda self: self.model.records)
    @rule(data=st.data(), count=st.integers(1, 8))
    def the_disk_takes_the_oldest(self, data: st.DataObject, count: int) -> None:
        records = deque(self.model.records)
        end = 0
        for _ in range(min(count, len(records))):
            end, _ = records.popleft()
        self._write(data, lambda: self.tail.free(end), dataclasses.replace(self.model, records=tuple(records)))
        self.tail.free(end - WORD)

    @rule(data=st.data(), length=st.integers(1, SLOT_BYTES - WORD))
    def a_trigger_opens(self, data: st.DataObject, length: int) -> None:
        self.serial += 1
        kept = filling(self.serial, length)
        if len(self.model.slots) == SLOTS:
            assert self.tail.take_slot(kept) is None
            return
        number = self.tail._free[-1]
        slots = tuple(sorted([*self.model.slots, (number, kept)]))

        def write() -> None:
            assert self.tail.take_slot(kept) == number

        self._write(data, write, dataclasses.replace(self.model, slots=slots))

    @precondition(lambda self: self.model.slots)
    @rule(data=st.data())
    def a_trigger_has_its_verdict(self, data: st.DataObject) -> None:
        gone = data.draw(st.sampled_from(self.model.slots))
        slots = tuple(slot for slot in self.model.slots if slot != gone)
        self._write(data, lambda: self.tail.clear_slot(gone[0]), dataclasses.replace(self.model, slots=slots))

    @rule(data=st.data(), length=st.integers(0, HEADER_BYTES - NOTE_START + 5))
    def a_note_is_kept(self, data: st.DataObject, length: int) -> None:
        self.serial += 1
        note = filling(self.serial, length)
        none = dataclasses.replace(self.model, note=b"")
        after = dataclasses.replace(self.model, note=note) if length <= HEADER_BYTES - NOTE_START else none
        self._write(data, lambda: self.tail.note(note), after, none)

    @rule(data=st.data(), step=st.integers(1, 2**40))
    def an_epoch_begins(self, data: st.DataObject, step: int) -> None:
        epoch = self.model.epoch + step
        begun = dataclasses.replace(self.model, epoch=epoch, head_seq=0)
        # Never the new epoch with the old head: that would tell of verdicts that nobody gave.
        between = (dataclasses.replace(self.model, head_seq=0), begun)
        after = dataclasses.replace(begun, ended=False)
        self._write(data, lambda: self.tail.begin(epoch), after, *between)

    @rule(data=st.data())
    def the_epoch_ends(self, data: st.DataObject) -> None:
        self._write(data, self.tail.end, dataclasses.replace(self.model, ended=True))

    @rule(ring_bytes=st.sampled_from([64, 1024]))
    def the_process_dies_and_the_next_one_goes_on(self, ring_bytes: int) -> None:
        old, new = self.tail, next(self.names)
        new.write_bytes(self.path.read_bytes())
        geometry = old.ring_bytes
        old.close()
        self.path.unlink()
        self._open(new, ring_bytes)
        assert self.tail.ring_bytes == geometry
        assert self.tail.held() == self.model

    @invariant()
    def everything_is_held(self) -> None:
        AnyDeath.steps += 1
        assert self.tail.held() == self.model

    def teardown(self) -> None:
        if hasattr(self, "tail"):
            self.tail.close()
        self.folder.cleanup()


def padded(length: int) -> int:
    """What a record takes of the ring: its word, and itself to the next word."""
    return WORD + -(-length // WORD) * WORD


def test_the_tail_agrees_with_its_model_whenever_the_process_dies() -> None:
    AnyDeath.steps = 0
    run_state_machine_as_test(AnyDeath, settings=settings(max_examples=EXAMPLES, stateful_step_count=STEPS))
    assert AnyDeath.steps >= STEPS_LEAST


# Every place of every write, for the writes whose order matters most.


def full_tail(path: Path) -> Tail:
    """Three records, the last of them behind a gap at the ring's end; two open triggers; a note."""
    tail = Tail(path, 256)
    tail.begin(7)
    tail.note(filling(1, 40))
    tail.free(tail.append(filling(2, 152), 1))
    tail.append(filling(3, 20), 2)
    tail.append(filling(4, 24), 3)
    tail.append(filling(5, 50), 4)
    tail.take_slot(filling(6, 30))
    tail.take_slot(filling(7, 33))
    return tail


def append_over_the_end(tail: Tail) -> None:
    tail.free(192)
    tail.append(filling(8, 60), 5)


def take_the_slot_where_one_was(tail: Tail) -> None:
    tail.clear_slot(SLOTS - 1)
    tail.take_slot(filling(9, 10))


WRITES: tuple[Callable[[Tail], object], ...] = (
    append_over_the_end,
    take_the_slot_where_one_was,
    lambda tail: tail.append(filling(8, 37), 5),
    lambda tail: tail.take_slot(filling(9, 100)),
    lambda tail: tail.note(filling(10, 77)),
)


@pytest.mark.parametrize("write", WRITES)
def test_a_write_that_is_cut_off_anywhere_damages_nothing(tmp_path: Path, write: Callable[[Tail], object]) -> None:
    path, beside = tmp_path / "a.tail", tmp_path / "b.tail"
    tail = full_tail(path)
    stores, before = watch(tail), path.read_bytes()
    known = tail.held()
    write(tail)
    after = tail.held()
    tail.close()
    assert stores
    for whole, (_, data) in enumerate(stores):
        for part in range(len(data)):
            beside.write_bytes(torn(before, stores, whole, part))
            found = held_by(beside)
            assert found.damaged == 0
            assert set(found.records) <= set(known.records) | set(after.records)
            assert set(known.records) & set(after.records) <= set(found.records)
            assert set(found.slots) <= set(known.slots) | set(after.slots)
            assert set(known.slots) & set(after.slots) <= set(found.slots)
            assert found.note in (known.note, b"", after.note)


# Damage.


def flipped(image: bytes, bit: int) -> bytes:
    changed = bytearray(image)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def test_a_flipped_bit_of_a_record_loses_no_other_and_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.tail"
    tail = full_tail(path)
    known = tail.held()
    ring_start = HEADER_BYTES + SLOTS * SLOT_BYTES
    tail.close()
    image = path.read_bytes()
    assert [end % 256 for end, _ in known.records] == [192, 224, 64]
    starts = [ring_start + at for at in (160, 192, 0)]
    for lost, (start, (_, record)) in enumerate(zip(starts, known.records, strict=True)):
        for bit in range((start + WORD) * 8, (start + WORD + len(record)) * 8):
            path.write_bytes(flipped(image, bit))
            found = held_by(path)
            assert found.records == known.records[:lost] + known.records[lost + 1 :]
            assert (found.slots, found.note, found.damaged) == (known.slots, known.note, 1)
        for bit in range(start * 8, (start + WORD) * 8):
            path.write_bytes(flipped(image, bit))
            found = held_by(path)
            assert found.records[:lost] == known.records[:lost]
            # Where a word of zeros is taken for an empty record, the journal finds that it is no verdict.
            whole = {(end, record) for end, record in found.records if record}
            assert whole < set(known.records)
            assert found.slots == known.slots
            assert found.damaged >= 1


def test_a_flipped_bit_of_an_open_trigger_loses_no_other_and_frees_its_place(tmp_path: Path) -> None:
    path = tmp_path / "a.tail"
    full_tail(path).close()
    known, image = held_by(path), path.read_bytes()
    for place, kept in known.slots:
        start = HEADER_BYTES + place * SLOT_BYTES
        others = tuple(slot for slot in known.slots if slot[0] != place)
        for bit in range(start * 8, (start + WORD + len(kept)) * 8):
            path.write_bytes(flipped(image, bit))
            tail = Tail(path, 4096)
            found = tail.held()
            assert (found.slots, found.damaged) == (others, 1)
            assert found.records == known.records
            assert [tail.take_slot(b"") is None for _ in range(SLOTS)] == [False] * (SLOTS - 1) + [True]
            tail.close()


def test_a_flipped_bit_of_the_note_loses_the_note_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.tail"
    full_tail(path).close()
    known, image = held_by(path), path.read_bytes()
    word = HEAD_WORDS.index("note") * WORD
    for bit in [*range(word * 8, (word + WORD) * 8), *range(NOTE_START * 8, (NOTE_START + len(known.note)) * 8)]:
        path.write_bytes(flipped(image, bit))
        assert held_by(path) == dataclasses.replace(known, note=b"")


@pytest.mark.parametrize("name", HEAD_WORDS)
def test_a_flipped_bit_of_the_header_is_no_crash(tmp_path: Path, name: str) -> None:
    original = tmp_path / "original"
    full_tail(original).close()
    image = original.read_bytes()
    word = HEAD_WORDS.index(name) * WORD
    refused = aside = 0
    for bit in range(word * 8, (word + WORD) * 8):
        path = tmp_path / f"{bit}.tail"
        path.write_bytes(flipped(image, bit))
        try:
            tail = Tail(path, 256)
        except JournalError:
            refused += 1
            continue
        aside += tail.set_aside is not None
        # What was opened can be used again once the disk has what it held.
        held = tail.held()
        tail.free(tail._words[HEAD_WORDS.index("head")])
        tail.append(b"new", 9)
        assert tail.held().records[-1][1] == b"new"
        assert tail.set_aside is None or held == NOTHING
        tail.close()
    assert refused == (63 if name == "version" else 0)
    if name in ("magic", "slots", "ring"):
        assert aside == 64


# Files that are not what they should be.


def test_a_newer_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.tail"
    full_tail(path).close()
    image = bytearray(path.read_bytes())
    image[WORD] = tail_module.VERSION + 1
    path.write_bytes(image)
    with pytest.raises(JournalError, match="newer version"):
        Tail(path, 256)
    assert path.read_bytes() == bytes(image)
    image[WORD] = tail_module.VERSION
    path.write_bytes(image)
    assert held_by(path).epoch == 7


@pytest.mark.parametrize(
    "content",
    [b"x", b"not a tail" * 500, b"\x00" * 100_000],
    ids=["short", "other", "zeros"],
)
def test_what_is_no_tail_is_set_aside(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.tail"
    path.write_bytes(content)
    tail = Tail(path, 256)
    assert tail.set_aside == tmp_path / "a.damaged"
    assert tail.set_aside.read_bytes() == content
    assert tail.held() == NOTHING
    tail.append(b"new", 1)
    tail.close()
    assert [record for _, record in held_by(path).records] == [b"new"]


@pytest.mark.parametrize("step", [-1, 1, 8])
def test_a_tail_of_another_size_is_set_aside(tmp_path: Path, step: int) -> None:
    path = tmp_path / "a.tail"
    full_tail(path).close()
    os.truncate(path, path.stat().st_size + step)
    tail = Tail(path, 256)
    assert tail.set_aside is not None
    assert tail.held() == NOTHING
    tail.close()


def test_a_tail_in_use_is_refused_until_it_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "a.tail"
    tail = full_tail(path)
    with pytest.raises(JournalError, match="in use"):
        Tail(path, 256)
    tail.close()
    held_by(path)


def test_a_tail_keeps_its_geometry(tmp_path: Path) -> None:
    path = tmp_path / "a.tail"
    tail = full_tail(path)
    known = tail.held()
    tail.close()
    larger = Tail(path, 4096)
    assert larger.ring_bytes == 256
    assert larger.held() == known
    larger.close()


def test_a_tail_that_memory_has_no_room_for_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with pytest.raises(JournalError, match="cannot be made"):
        Tail(tmp_path / "a.tail", 1 << 20)
    assert list(tmp_path.iterdir()) == []


def test_a_tail_whose_damaged_one_cannot_be_replaced_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.tail"
    path.write_bytes(b"not a tail")
    opened = os.open

    def refuse_after_the_first(*arguments: object) -> int:
        monkeypatch.setattr(os, "open", refuse)
        return opened(*arguments)  # type: ignore[arg-type]

    def refuse(*_: object) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "open", refuse_after_the_first)
    with pytest.raises(JournalError, match="cannot be opened"):
        Tail(path, 256)


@pytest.mark.parametrize("kind", ["symlink", "folder", "nowhere"])
def test_a_path_that_cannot_be_a_tail_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.tail"
    target = tmp_path / "target"
    target.write_bytes(b"precious")
    if kind == "symlink":
        path.symlink_to(target)
    elif kind == "folder":
        path.mkdir()
    else:
        path = tmp_path / "missing" / "a.tail"
    with pytest.raises(JournalError, match="cannot be opened"):
        Tail(path, 256)
    assert target.read_bytes() == b"precious"


def test_the_tail_belongs_to_nobody_else(tmp_path: Path) -> None:
    path = tmp_path / "a.tail"
    Tail(path, 256).close()
    assert path.stat().st_mode & 0o777 == 0o600


def test_each_journal_has_a_tail_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "one")
    one, link, two = (tail_path(tmp_path, tmp_path / name) for name in ("one", "link", "two"))
    assert one == link
    assert one != two


def test_no_more_than_a_slot_is_taken(tmp_path: Path) -> None:
    tail = full_tail(tmp_path / "a.tail")
    with pytest.raises(ValueError, match="for a slot"):
        tail.take_slot(b"x" * (SLOT_BYTES - WORD + 1))
    whole = filling(11, SLOT_BYTES - WORD)
    number = tail.take_slot(whole)
    assert (number, whole) in tail.held().slots
    tail.close()


def test_an_empty_record_counts(tmp_path: Path) -> None:
    tail = Tail(tmp_path / "a.tail", 64)
    ends = [tail.append(b"", seq) for seq in range(1, 9)]
    assert not tail.fits(0)
    assert tail.held().records == tuple((end, b"") for end in ends)
    assert zlib.crc32(b"") == 0
    tail.close()
