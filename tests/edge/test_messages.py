"""The messages of the bus: what they say, and that they come back as they were."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.bus.compose import Judged, mask_message, mask_png, mask_reference, verdict_message
from edge.bus.messages import (
    HeartbeatMessage,
    JournalState,
    MaskMessage,
    MaskReference,
    Mode,
    State,
    StateMessage,
    VerdictMessage,
    encode,
    last_value,
    replayed,
)
from edge.bus.subscriber import Message
from edge.bus.topics import TOPICS
from edge.job import Job
from edge.types import Judgement, Reason, Region, Verdict
from tests.edge.fakes import fake_entry, fake_job, fake_provenance
from tests.edge.feed import state_message
from tests.edge.messages import OK, heartbeat, rejected

LARGEST = 2**53 - 1
WHOLE = st.integers(0, LARGEST)
TEXT = st.text(max_size=20)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
REGIONS = st.lists(st.builds(Region, WHOLE, WHOLE, WHOLE, WHOLE, WHOLE, FINITE), max_size=3).map(tuple)

VERDICTS = st.builds(
    VerdictMessage,
    station_id=TEXT,
    camera_id=TEXT,
    epoch=WHOLE,
    seq=WHOLE,
    trigger_seq=WHOLE,
    trigger_id=TEXT,
    part_id=TEXT,
    encoder_count=st.none() | WHOLE,
    frame_id=st.none() | WHOLE,
    judgement=st.sampled_from(Judgement),
    accept=st.booleans(),
    reason=st.none() | st.sampled_from(Reason),
    detail=TEXT,
    score=st.none() | FINITE,
    threshold=st.none() | FINITE,
    region_count=WHOLE,
    regions=REGIONS,
    mask=st.none() | st.builds(MaskReference, sha256=TEXT, width=WHOLE, height=WHOLE),
    product=TEXT,
    recipe_revision=WHOLE,
    recipe_hash=TEXT,
    package_hash=TEXT,
    bank_hash=TEXT,
    config_hash=TEXT,
    software_version=TEXT,
    engine=TEXT,
    trigger_wall_us=WHOLE,
    capture_after_us=st.none() | WHOLE,
    done_after_us=st.none() | WHOLE,
    publish_after_us=WHOLE,
    clock_synchronised=st.none() | st.booleans(),
    latency_us=WHOLE,
    deadline_us=WHOLE,
    deadline_met=st.booleans(),
    is_simulated=st.booleans(),
    is_test=st.booleans(),
    is_replay=st.booleans(),
)
HEARTBEATS = st.builds(
    HeartbeatMessage,
    station_id=TEXT,
    epoch=WHOLE,
    head_seq=WHOLE,
    triggers_seen=WHOLE,
    ok=WHOLE,
    not_ok=WHOLE,
    not_decidable=WHOLE,
    in_flight=WHOLE,
    missed=WHOLE,
    late=WHOLE,
    overruns=WHOLE,
    duplicates=WHOLE,
    unclaimed=WHOLE,
    state=st.sampled_from(State),
    mode=st.sampled_from(Mode),
    journal=st.sampled_from(JournalState),
    journal_lost=WHOLE,
    pictures_lost=WHOLE,
    plaintext_remote=st.booleans(),
    wall_us=WHOLE,
)
STATES = st.builds(
    StateMessage,
    station_id=TEXT,
    epoch=WHOLE,
    state=st.sampled_from(State),
    mode=st.sampled_from(Mode),
    detail=TEXT,
    product=TEXT,
    recipe_revision=WHOLE,
    recipe_hash=TEXT,
    package_hash=TEXT,
    config_hash=TEXT,
    software_version=TEXT,
    first_trigger_seq=WHOLE,
    replay_endpoint=TEXT,
    control_endpoint=TEXT,
    wall_us=WHOLE,
)
MASKS = st.builds(
    MaskMessage,
    station_id=TEXT,
    epoch=WHOLE,
    seq=WHOLE,
    trigger_seq=WHOLE,
    part_id=TEXT,
    sha256=TEXT,
    width=WHOLE,
    height=WHOLE,
)


@given(message=VERDICTS | HEARTBEATS | MASKS | STATES)
def test_every_message_comes_back_as_it_was(message: Message) -> None:
    assert msgspec.json.decode(encode(message), type=type(message)) == message


def test_every_message_says_its_schema_version() -> None:
    for message in every_message():
        assert msgspec.json.decode(encode(message))["schema_version"] == message.schema_version == 2


@given(message=VERDICTS)
def test_a_copy_says_that_it_is_one_and_a_last_value_accepts_nothing(message: VerdictMessage) -> None:
    data = encode(message)
    again = msgspec.json.decode(replayed(data), type=VerdictMessage)
    assert again == msgspec.structs.replace(message, is_replay=True)
    last = msgspec.json.decode(last_value(data), type=VerdictMessage)
    assert last == msgspec.structs.replace(message, is_replay=True, accept=False)


def test_the_table_has_one_row_a_topic_and_no_name_begins_another() -> None:
    names = [topic.name for topic in TOPICS]
    assert len(set(names)) == len(names) == 4
    assert not any(a != b and a.startswith(b) for a in names for b in names)


def whole_numbers(value: object) -> Iterator[int]:
    """All integers of a JSON value."""
    if isinstance(value, dict):
        for inner in value.values():
            yield from whole_numbers(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from whole_numbers(inner)
    elif isinstance(value, int) and not isinstance(value, bool):
        yield value


def every_message() -> list[Message]:
    """One message of each topic, from an epoch of today."""
    epoch = time.time_ns() // 1_000_000
    judged = rejected()
    assert judged.verdict.mask is not None
    given = msgspec.structs.replace(verdict_message(judged, 7), epoch=epoch)
    mask, _ = mask_message(given, judged.verdict.mask)
    return [given, mask, heartbeat(8, epoch), state_message(epoch)]


def test_whole_numbers_stay_exact_in_javascript() -> None:
    for message in every_message():
        numbers = list(whole_numbers(msgspec.json.decode(msgspec.json.encode(message))))
        assert numbers and all(abs(number) <= LARGEST for number in numbers)


def test_a_verdict_tells_identity_judgement_provenance_and_times() -> None:
    message = verdict_message(rejected(), 7)
    assert (message.seq, message.trigger_seq, message.frame_id, message.part_id) == (7, 4, 9, "part-4")
    assert (message.encoder_count, message.trigger_id) == (123, "plc-4")
    assert (message.epoch, message.camera_id) == (1, "fake")
    assert (message.judgement, message.accept, message.reason) == (Judgement.NOT_OK, False, Reason.DEFECT)
    assert (message.score, message.threshold, message.region_count) == (3.0, 1.0, 1)
    assert (message.product, message.recipe_revision, message.package_hash) == ("board", 3, "a" * 64)
    assert (message.capture_after_us, message.done_after_us) == (2000, 7000)
    assert message.latency_us == message.publish_after_us >= 0 and message.deadline_us == 1_000_000
    assert message.deadline_met is (message.latency_us <= 1_000_000)
    assert (message.is_simulated, message.is_test, message.is_replay) == (True, False, False)


@pytest.mark.parametrize("ahead_ns", [-(10**9), 10**18])
def test_only_an_ok_within_the_deadline_is_accepted(ahead_ns: int) -> None:
    message = verdict_message(Judged(fake_entry(deadline_ns=ahead_ns), OK), 1)
    assert message.judgement is Judgement.OK
    assert message.deadline_met is message.accept is (ahead_ns > 0)


def test_a_verdict_in_observe_mode_says_so_and_accepts_nothing() -> None:
    observing = Job(None, msgspec.structs.replace(fake_provenance(), is_test=True))
    entry = fake_entry()
    message = verdict_message(Judged(replace(entry, job=observing), OK), 1)
    assert (message.judgement, message.accept, message.is_test) == (Judgement.OK, False, True)
    assert verdict_message(Judged(entry, OK), 1).accept and observing.mode is Mode.OBSERVE


def test_a_verdict_tells_the_job_that_its_trigger_was_bound_to() -> None:
    other = Job(fake_job().recipe, msgspec.structs.replace(fake_provenance(), product="other", recipe_revision=9))
    message = verdict_message(Judged(replace(fake_entry(), job=other), OK), 1)
    assert (message.product, message.recipe_revision) == ("other", 9)


def test_a_verdict_without_a_frame_says_none_not_zero() -> None:
    verdict = Verdict(Judgement.NOT_DECIDABLE, Reason.DEADLINE_MISSED, None, None)
    message = verdict_message(Judged(rejected().entry, verdict), 1)
    assert (message.frame_id, message.capture_after_us, message.done_after_us, message.score) == (None,) * 4
    assert message.mask is None and message.regions == () and not message.accept


def test_a_mask_is_named_by_the_hash_of_its_bits_and_not_of_its_png() -> None:
    mask = np.zeros((50, 70), np.bool_)
    empty = mask_reference(mask)
    mask[49, 69] = True
    assert mask_reference(mask) != empty and (empty.width, empty.height) == (70, 50)
    assert mask_png(mask) != mask_png(~mask)
    with pytest.raises(ValueError, match="without a mask"):
        mask_message(verdict_message(Judged(fake_entry(), OK), 1), mask)
