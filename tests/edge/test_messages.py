"""The messages of the bus: what they say, and that they come back as they were."""

from __future__ import annotations

import time
from collections.abc import Iterator

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.bus.compose import Composer, Judged, mask_png, mask_reference
from edge.bus.messages import HeartbeatMessage, MaskMessage, MaskReference, State, VerdictMessage
from edge.bus.subscriber import Message
from edge.bus.topics import TOPICS
from edge.ledger import Counts
from edge.types import Judgement, Reason, Region, Verdict
from tests.edge.fakes import fake_provenance
from tests.edge.messages import rejected

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
    state=st.sampled_from(State),
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


@given(message=VERDICTS | HEARTBEATS | MASKS)
def test_every_message_comes_back_as_it_was(message: Message) -> None:
    assert msgspec.json.decode(msgspec.json.encode(message), type=type(message)) == message


def test_the_table_has_one_row_a_topic_and_no_name_begins_another() -> None:
    names = [topic.name for topic in TOPICS]
    assert len(set(names)) == len(names) == 3
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


def test_whole_numbers_stay_exact_in_javascript() -> None:
    composer = Composer(msgspec.structs.replace(fake_provenance(), epoch=time.time_ns() // 1_000_000), 10**9)
    messages: list[Message] = [
        composer.verdict(rejected(), 7),
        composer.mask(rejected(), 7)[0],
        composer.heartbeat(Counts(9, 3, 3, 2, 1, 1, 0, 0), 8, State.READY),
    ]
    for message in messages:
        numbers = list(whole_numbers(msgspec.json.decode(msgspec.json.encode(message))))
        assert numbers and all(abs(number) <= LARGEST for number in numbers)


def test_a_verdict_tells_identity_judgement_provenance_and_times() -> None:
    judged = rejected()
    message = Composer(fake_provenance(), deadline_ns=80_000_000).verdict(judged, 7)
    assert (message.seq, message.trigger_seq, message.frame_id, message.part_id) == (7, 4, 9, "part-4")
    assert (message.encoder_count, message.epoch, message.camera_id) == (123, 1, "fake")
    assert (message.judgement, message.accept, message.reason) == (Judgement.NOT_OK, False, Reason.DEFECT)
    assert (message.score, message.threshold, message.region_count) == (3.0, 1.0, 1)
    assert (message.product, message.recipe_revision, message.package_hash) == ("board", 3, "a" * 64)
    assert (message.capture_after_us, message.done_after_us) == (2000, 7000)
    assert message.latency_us == message.publish_after_us >= 0 and message.deadline_us == 80_000
    assert message.deadline_met is (message.latency_us <= 80_000)
    assert (message.is_simulated, message.is_test, message.is_replay) == (True, False, False)


def test_a_verdict_without_a_frame_says_none_not_zero() -> None:
    verdict = Verdict(Judgement.NOT_DECIDABLE, Reason.DEADLINE_MISSED, None, None)
    message = Composer(fake_provenance(), 1).verdict(Judged(rejected().trigger, verdict), 1)
    assert (message.frame_id, message.capture_after_us, message.done_after_us, message.score) == (None,) * 4
    assert message.mask is None and message.regions == () and not message.accept


def test_a_mask_is_named_by_the_hash_of_its_bits_and_not_of_its_png() -> None:
    mask = np.zeros((50, 70), np.bool_)
    empty = mask_reference(mask)
    mask[49, 69] = True
    assert mask_reference(mask) != empty and (empty.width, empty.height) == (70, 50)
    assert mask_png(mask) != mask_png(~mask)
    with pytest.raises(ValueError, match="without a mask"):
        Composer(fake_provenance(), 1).mask(Judged(rejected().trigger, Verdict(Judgement.OK, None, 0.0, 1.0)), 1)
