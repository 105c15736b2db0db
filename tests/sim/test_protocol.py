"""The rules of the protocol, one by one: what a node says to what it is told."""

import pytest

from wherry.base.errors import CorruptError
from wherry.run import control, message
from wherry.run.control import (
    Alive,
    Fenced,
    Forget,
    Forgotten,
    Need,
    Noted,
    Passed,
    Renew,
    Ship,
    Taken,
)
from wherry.run.delivery import (
    Attach,
    Cancel,
    Execute,
    Executed,
    Kept,
    Load,
    Loaded,
    Match,
    Matched,
    Migrate,
    Pending,
    Perform,
    Performed,
    Persist,
    Place,
    Placed,
    Program,
    Received,
    Release,
    Report,
    Restored,
    Resume,
    Send,
    Signalled,
    Stop,
    Submit,
    Tick,
    Woken,
    answer,
    failed,
    go,
    lost,
    park,
    perform,
)  # fmt: skip
from wherry.run.message import (
    ERROR,
    FRESH,
    NOTHING,
    REFERS,
    RUN,
    TIMED_OUT,
    UNKNOWN,
    VALUE,
    Message,
)  # fmt: skip
from wherry.run.node import HOLDER, MS, Timing
from wherry.run.protocol import Node
from wherry.run.records import (
    AWAY,
    ENDED,
    PARKED,
    PASSED,
    RUNNING,
    Answered,
    Code,
    Effect,
    Held,
    Leased,
    Receipted,
    Signal,
    Stepped,
)  # fmt: skip
from wherry.run.records import Forgotten as ForgottenRecord

KEY = b"key".ljust(32, b".")
ID = b"i" * 16
PROGRAM = b"p" * 16
CODE = Code(PROGRAM, "program", b"body")
WALL = 10**18
LEASE = 1000 * MS
ENTRY = Message(ID, RUN, 1, 0, PROGRAM, 0, "home", "acme", lease_ms=1000)


class Bench:
    """A node, and a journal of what it was last asked to keep."""

    def __init__(self, name, *, life=1, **options):
        self.node = Node(name, KEY, life, owns=name == "home", **options)
        self.now = 0
        self.rows = {}

    def say(self, event, after=0, wall=0):
        self.now += after
        commands = self.node.handle(event, self.now, WALL + self.now + wall)
        for command in commands:
            for record in command.records if isinstance(command, Persist) else ():
                self.rows[type(record)] = record
        return commands

    def hear(self, said, sender="csd", **more):
        freeze = message.freeze if isinstance(said, Message) else control.freeze
        return self.say(Received(sender, freeze(said, KEY)), **more)


def sent(commands, target=None):
    data = [c.data for c in commands if isinstance(c, Send) and target in {None, c.target}]
    return [(control if x[:4] == control.MAGIC else message).thaw(x, KEY) for x in data]


def records(commands):
    return [r for c in commands if isinstance(c, Persist) for r in c.records]


def kinds(commands):
    return [type(c) for c in commands]


def only(commands, kind):
    (found,) = [c for c in commands if isinstance(c, kind)]
    return found


def home_with(outcome=None):
    """Give a home whose continuation's first step came to `outcome`."""
    home = Bench("home")
    home.say(Submit(ENTRY, CODE))
    if outcome is not None:
        home.first = home.say(Executed(ENTRY, outcome))
    return home


def visited(**changes):
    """Give a node that carries out hop 1."""
    node = Bench("csd")
    node.say(Program(CODE))
    m = Message(ID, RUN, 1, 1, PROGRAM, 2, "home", "acme", b"frame", lease_ms=1000, **changes)
    node.first = node.hear(m, "home")
    node.m = m
    return node


def after(m, hop=1, **changes):
    """Give a message of a later hop or epoch of the same continuation."""
    fields = {"epoch": m.epoch, "frame": m.frame, "flags": 0, **changes}
    return Message(
        ID, RUN, fields.pop("epoch"), hop, PROGRAM, 2, "home", "acme", lease_ms=1000, **fields
    )


# A visited node


def test_a_message_is_on_record_before_it_is_acknowledged_and_carried_out():
    node = visited()
    assert kinds(node.first) == [Persist, Send, Execute]
    assert sent(node.first, "home") == [Taken(ID, 1, 1)]
    assert records(node.first)[0].state == RUNNING


def test_a_hop_on_record_is_acknowledged_again_and_not_carried_out_again():
    node = visited()
    again = node.hear(node.m, "home")
    assert kinds(again) == [Send]
    assert sent(again) == [Taken(ID, 1, 1)]


def test_an_older_epoch_is_refused():
    node = visited()
    node.hear(after(node.m, epoch=3), "home")
    assert sent(node.hear(node.m, "nic"), "nic") == [Fenced(ID, 3)]


def test_a_newer_epoch_stops_the_step_of_an_older_one():
    node = visited()
    newer = node.hear(after(node.m, epoch=2), "home")
    assert only(newer, Stop) == Stop(ID, 1, 1)
    assert only(newer, Execute).message.epoch == 2


def test_an_outcome_is_on_record_before_it_is_sent_on_and_home_is_told():
    node = visited()
    done = node.say(
        Executed(node.m, go("gpu", 4, b"next", receipt=b"used", kept=(Kept(b"rows", 9),)))
    )
    assert kinds(done) == [Persist, Send, Send]
    held, leased, receipted = records(done)
    assert (held.state, held.where, held.hop) == (AWAY, "gpu", 2)
    assert (leased.resource, leased.until_ns) == (b"rows", WALL + 4 * LEASE)
    assert (receipted.receipt, receipted.told, receipted.home) == (b"used", False, "home")
    (onward,) = sent(done, "gpu")
    assert (onward.hop, onward.position, onward.frame) == (2, 4, b"next")
    (passed,) = sent(done, "home")
    assert (passed.hop, passed.where, passed.leased) == (1, "gpu", True)
    assert message.thaw(passed.message, KEY) == onward


def test_a_state_is_kept_until_the_next_node_and_home_have_it():
    for first, second in ((Taken(ID, 1, 2), None), (None, Taken(ID, 1, 2))):
        node = visited()
        (passed,) = sent(node.say(Executed(node.m, go("gpu", 4, b"next"))), "home")
        noted = Noted(ID, 1, 1, passed.run)
        assert ForgottenRecord(ID) not in records(node.hear(first or noted, "gpu"))
        assert ForgottenRecord(ID) in records(node.hear(second or noted, "gpu"))
        assert not node.node.next_ns


def test_what_is_not_acknowledged_is_sent_again_less_and_less_often():
    node = visited()
    node.say(Executed(node.m, go("gpu", 4, b"next")))
    times = []
    for _ in range(5):
        node.now = node.node.next_ns
        onward = sent(node.say(Tick()), "gpu")
        times += [node.now] * len(onward)
    gaps = [b - a for a, b in zip([0, *times], times, strict=False)]
    assert gaps == [50 * MS << n for n in range(len(gaps))]


def test_what_home_has_is_not_sent_on_for_ever():
    node = visited()
    (passed,) = sent(node.say(Executed(node.m, go("gpu", 4, b"next"))), "home")
    node.hear(Noted(ID, 1, 1, passed.run), "home")
    for _ in range(Timing().tries + 1):
        node.now = node.node.next_ns
        node.say(Tick())
    assert not node.node.entries
    assert not node.node.next_ns


def test_what_goes_home_goes_with_what_home_is_told():
    node = visited()
    done = node.say(Executed(node.m, answer(b"42")))
    (passed,) = sent(done)
    assert passed.where == "home"
    assert message.thaw(passed.message, KEY).operand == b"42"


def test_two_steps_at_one_node_need_no_message():
    node = visited()
    done = node.say(Executed(node.m, go("csd", 4, b"next", receipt=b"used")))
    assert only(done, Execute).message.hop == 2
    assert [type(x) for x in sent(done)] == [Passed]


def test_a_step_that_takes_long_says_that_it_is_alive():
    node = visited()
    assert node.node.next_ns == LEASE // 3
    assert sent(node.say(Tick(), after=LEASE // 3), "home") == [Alive(ID, 1, 1)]


def test_an_outcome_on_record_is_sent_again_under_a_newer_epoch():
    node = visited()
    node.say(Executed(node.m, go("gpu", 4, b"next", receipt=b"used")))
    again = node.hear(after(node.m, epoch=2), "home")
    assert Execute not in kinds(again)
    assert [(m.epoch, m.hop) for m in sent(again, "gpu")] == [(2, 2)]
    taken, passed = sent(again, "home")
    assert (taken, passed.epoch, passed.receipt) == (Taken(ID, 2, 1), 2, b"")


@pytest.mark.parametrize("changes", [{"frame": b"other"}, {"flags": FRESH}])
def test_it_is_not_if_the_state_is_another_or_rows_were_lost(changes):
    node = visited()
    node.say(Executed(node.m, go("gpu", 4, b"next")))
    assert Execute in kinds(node.hear(after(node.m, epoch=2, **changes), "home"))


def test_it_is_not_if_what_it_made_is_gone():
    node = visited()
    node.say(Executed(node.m, go("gpu", 4, b"next", flags=REFERS, kept=(Kept(b"rows"),))))
    node.node.keeping.clear()
    assert Execute in kinds(node.hear(after(node.m, epoch=2), "home"))


def test_a_step_nobody_asks_for_any_more_is_counted_and_what_it_left_let_go():
    node = visited()
    node.hear(Forget(ID), "home")
    late = node.say(Executed(node.m, go("gpu", 4, b"next", receipt=b"used", kept=(Kept(b"rows"),))))
    assert records(late)[0].receipt == b"used"
    assert only(late, Release).resource == b"rows"
    (passed,) = sent(late)
    assert (passed.receipt, passed.message) == (b"used", b"")


def test_all_is_let_go_when_home_says_so():
    node = visited()
    node.say(Executed(node.m, go("gpu", 4, b"next", kept=(Kept(b"rows"),))))
    done = node.hear(Forget(ID), "home")
    assert ForgottenRecord(ID) in records(done)
    assert Leased(b"rows", ID, 0) in records(done)
    assert only(done, Release) == Release(b"rows", ID)
    assert sent(done) == [Forgotten(ID)]
    assert sent(node.hear(Forget(ID), "home")) == [Forgotten(ID)]


def test_a_lease_ends_by_time_unless_it_is_renewed():
    node = visited()
    (passed,) = sent(node.say(Executed(node.m, answer(b"", kept=(Kept(b"rows"),)))), "home")
    node.hear(Noted(ID, 1, 1, passed.run), "home")
    node.hear(Renew(ID, 10 * LEASE), "home")
    assert Release not in kinds(node.say(Tick(), after=5 * LEASE))
    ended = node.say(Tick(), after=5 * LEASE)
    assert only(ended, Release) == Release(b"rows", ID)
    assert records(ended) == [Leased(b"rows", ID, 0)]
    assert not node.node.next_ns


def test_a_program_that_is_not_here_is_asked_for_once_and_then_kept():
    node = Bench("csd")
    m = Message(ID, RUN, 1, 1, PROGRAM, 2, "home", lease_ms=1000)
    assert sent(node.hear(m, "nic"), "home") == [Need(PROGRAM)]
    came = node.hear(Ship(PROGRAM, b"body"), "home")
    assert records(came)[0] == CODE
    assert sent(came, "nic") == [Taken(ID, 1, 1)]
    assert only(came, Execute).message == m


def test_a_message_whose_program_does_not_come_is_not_kept_for_ever():
    node = Bench("csd")
    node.hear(Message(ID, RUN, 1, 1, PROGRAM, 2, "home", lease_ms=1000), "nic")
    node.say(Tick(), after=LEASE)
    assert not node.node.lacking
    assert not node.node.next_ns


def test_a_visited_node_goes_on_from_its_journal():
    node = visited()
    node.say(Executed(node.m, go("gpu", 4, b"next", receipt=b"used", kept=(Kept(b"rows"),))))
    kept = tuple(node.rows[kind] for kind in (Held, Leased, Receipted))
    other = Bench("csd", life=2)
    other.say(Program(CODE))
    began = other.say(Restored(ID, kept))
    assert [m.hop for m in sent(began, "gpu")] == [2]
    (passed,) = sent(began, "home")
    assert (passed.run, passed.receipt, passed.leased) == (node.rows[Receipted].run, b"used", True)


def test_a_receipt_is_told_though_its_continuation_is_over():
    node = Bench("csd")
    r = Receipted(ID, 1, 1, "csd", "acme", b"used", 7, home="home")
    (passed,) = sent(node.say(Restored(ID, (r,))), "home")
    assert (passed.run, passed.receipt) == (7, b"used")
    noted = node.hear(Noted(ID, 1, 1, 7), "home")
    assert records(noted)[0].told
    assert not node.node.next_ns


def test_a_refused_state_is_not_sent_on():
    node = visited()
    node.say(Executed(node.m, go("gpu", 4, b"next")))
    assert records(node.hear(Fenced(ID, 2), "gpu")) == [ForgottenRecord(ID)]


# Home


def test_a_continuation_is_on_record_before_it_begins():
    home = Bench("home")
    began = home.say(Submit(ENTRY, CODE))
    assert kinds(began) == [Persist, Execute]
    assert [type(r) for r in records(began)] == [Code, Held]


def test_what_it_runs_on_stays_with_a_continuation():
    home = Bench("home")
    setting = Code(b"s" * 16, "setting", b"two drives")
    began = home.say(Submit(ENTRY, CODE, setting))
    assert setting in records(began)
    home.say(Executed(ENTRY, park(3, b"f", wait_ns=LEASE)))
    home.say(Woken(ID), after=LEASE)
    home.say(Loaded(ID, (home.rows[Held],)))
    assert home.rows[Held].setting == setting.digest
    assert home.rows[Held].started_ns == WALL
    other = Message(b"o" * 16, RUN, 1, 0, PROGRAM, 0, "home")
    assert setting not in records(home.say(Submit(other, CODE, setting)))


def test_home_sends_a_state_again_and_drives_it_anew_when_a_lease_passes():
    home = home_with(go("csd", 2, b"frame"))
    assert sent(home.first, "csd")
    assert sent(home.say(Tick(), after=50 * MS), "csd")
    anew = home.say(Tick(), after=LEASE)
    place = only(anew, Place)
    assert (place.message.epoch, place.message.hop, place.avoid) == (2, 1, ("csd",))
    placed = home.say(Placed(place.message, "gpu"))
    assert [(m.epoch, m.hop) for m in sent(placed, "gpu")] == [(2, 1)]
    assert (home.rows[Held].epoch, home.rows[Held].where) == (2, "gpu")


def test_a_sign_of_life_begins_the_lease_anew():
    home = home_with(go("csd", 2, b"frame"))
    home.hear(Taken(ID, 1, 1), after=LEASE // 2)
    home.hear(Alive(ID, 1, 1), after=LEASE * 3 // 4)
    assert Place not in kinds(home.say(Tick(), after=LEASE * 3 // 4))
    assert Place in kinds(home.say(Tick(), after=LEASE))


def test_nowhere_to_go_is_asked_again_without_avoiding_any():
    home = home_with(go("csd", 2, b"frame"))
    place = only(home.say(Tick(), after=LEASE), Place)
    assert home.say(Placed(place.message, "")) == []
    assert only(home.say(Tick(), after=LEASE), Place).avoid == ()


def passed_of(home, kind_of=None, *, epoch=1, hop=1, leased=False, receipt=b"used", where="home"):
    m = message.thaw(home.rows[Held].message, KEY)
    base = Message(ID, RUN, epoch, hop, PROGRAM, m.position, "home", "acme", m.frame, lease_ms=1000)
    outcome = kind_of or go(where, 4, b"next")
    onward = Message(
        ID, outcome.kind, epoch, hop + 1, PROGRAM, outcome.position, "home", "acme", outcome.frame,
        outcome.operand, flags=outcome.flags, lease_ms=1000,
    )  # fmt: skip
    data = message.freeze(onward, KEY)
    return Passed(ID, base.epoch, hop, 5, where, "acme", receipt, data, leased=leased)


def test_home_follows_a_state_and_bills_each_hop_once():
    home = home_with(go("csd", 2, b"frame"))
    said = passed_of(home, where="gpu")
    came = home.hear(said)
    held, receipted = records(came)
    assert (held.state, held.where, held.hop) == (PASSED, "gpu", 2)
    assert (receipted.node, receipted.receipt, receipted.told) == ("csd", b"used", True)
    assert sent(came) == [Noted(ID, 1, 1, 5)]
    assert [type(r) for r in records(home.hear(said))] == [Receipted]


def test_what_comes_of_an_older_epoch_is_billed_and_not_taken():
    home = home_with(go("csd", 2, b"frame"))
    home.say(Tick(), after=LEASE)
    late = home.hear(passed_of(home, answer(b"old")))
    assert Report not in kinds(late)
    assert [type(r) for r in records(late)] == [Receipted]
    assert sent(late, "csd") == [Noted(ID, 1, 1, 5), Fenced(ID, 2)]


def test_an_answer_is_on_record_before_it_is_told_once():
    home = home_with(go("csd", 2, b"frame"))
    said = passed_of(home, answer(b"42"))
    done = home.hear(said)
    assert kinds(done)[:2] == [Persist, Report]
    assert only(done, Report) == Report(ID, False, b"42")
    assert Answered(ID, False, b"42", WALL) in records(done)
    assert not home.node.entries
    assert not home.node.next_ns
    again = home.hear(said)
    assert kinds(again) == [Load]
    over = home.say(Loaded(ID, (home.rows[Answered],)))
    assert Report not in kinds(over)
    assert sent(over) == [Noted(ID, 1, 1, 5), Forget(ID)]


def test_nodes_with_rows_are_asked_to_forget_until_they_do():
    home = home_with(go("csd", 2, b"frame"))
    home.hear(passed_of(home, where="gpu", leased=True))
    done = home.hear(passed_of(home, answer(b"42"), hop=2), "gpu")
    assert sent(done, "csd") == [Forget(ID)]
    assert home.rows[Held].state == ENDED
    assert sent(home.say(Tick(), after=200 * MS), "csd") == [Forget(ID)]
    over = home.hear(Forgotten(ID))
    assert records(over) == [
        Leased(HOLDER + b"csd", ID, 0),
        ForgottenRecord(ID, WALL + home.now),
    ]
    assert not home.node.next_ns


def test_a_node_that_is_gone_is_not_asked_for_ever():
    home = home_with(go("csd", 2, b"frame"))
    home.hear(passed_of(home, where="gpu", leased=True))
    home.hear(passed_of(home, answer(b"42"), hop=2), "gpu")
    while home.node.next_ns:
        home.now = home.node.next_ns
        home.say(Tick())
    assert not home.node.entries


def test_an_effect_is_on_record_before_it_begins_and_its_result_before_anything_goes_on():
    home = home_with(perform(3, b"f", b"call", once=True))
    assert kinds(home.first) == [Persist, Perform]
    begun = only(home.first, Perform)
    assert Effect(begun.key, ID, 1, False) in records(home.first)
    done = home.say(Performed(begun.message, VALUE, b"result"))
    assert kinds(done) == [Persist, Execute]
    assert Effect(begun.key, ID, 1, True, b"result") in records(done)
    m = only(done, Execute).message
    assert (m.hop, m.given, m.operand, m.position) == (2, VALUE, b"result", 3)
    assert home.say(Performed(begun.message, VALUE, b"result")) == []


def test_an_effect_that_ends_after_its_continuation_changes_nothing():
    home = home_with(go("csd", 2, b"frame"))
    home.hear(passed_of(home, perform(5, b"f", b"call", once=True), leased=True))
    begun = message.thaw(home.rows[Held].message, KEY)
    home.say(Cancel(ID, b"enough"))
    assert home.say(Performed(begun, VALUE, b"result")) == []


def restarted(home, *kinds_kept):
    other = Bench("home", life=2)
    other.say(Program(CODE))
    kept = tuple(home.rows[kind] for kind in (Held, *kinds_kept) if kind in home.rows)
    other.first = other.say(Restored(ID, kept))
    return other


def test_an_effect_that_may_be_under_way_is_unknown_after_a_crash():
    home = restarted(home_with(perform(3, b"f", b"call", once=True)), Effect)
    assert Perform not in kinds(home.first)
    assert only(home.first, Execute).message.given == UNKNOWN


def test_an_effect_with_a_key_is_begun_again_with_the_same_key():
    before = home_with(perform(3, b"f", b"call", once=False))
    home = restarted(before, Effect)
    assert only(home.first, Perform) == only(before.first, Perform)


def test_a_sleeping_one_is_in_the_journal_only_and_has_no_timer():
    home = home_with(park(3, b"f", wait_ns=5 * LEASE))
    assert home.rows[Held].state == PARKED
    assert home.rows[Held].wake_ns == WALL + 5 * LEASE
    assert not home.node.entries
    assert not home.node.next_ns
    assert kinds(home.say(Woken(ID), after=5 * LEASE)) == [Load]
    woken = home.say(Loaded(ID, (home.rows[Held],)))
    assert only(woken, Execute).message.given == NOTHING
    assert home.rows[Held].state == RUNNING


def test_one_that_is_not_due_sleeps_on_though_the_clock_went_back():
    home = home_with(park(3, b"f", wait_ns=5 * LEASE))
    held = home.rows[Held]
    home.say(Woken(ID), after=5 * LEASE)
    assert home.say(Loaded(ID, (held,)), wall=-LEASE) == []


def test_one_that_is_woken_twice_goes_on_once():
    home = home_with(park(3, b"f", wait_ns=LEASE))
    held = home.rows[Held]
    assert kinds(home.say(Woken(ID), after=LEASE)) == [Load]
    assert home.say(Woken(ID)) == []
    assert [type(c) for c in home.say(Loaded(ID, (held,)))].count(Execute) == 1


def test_an_event_is_taken_by_one_that_waits_whichever_comes_first():
    home = home_with(park(3, b"f", event="go"))
    assert kinds(home.first) == [Persist, Match]
    came = home.say(Signalled("go", b"1", b"payload"))
    assert kinds(came) == [Persist]
    assert home.say(Matched("go")) == [Match("go")]
    signal = Signal("go", b"1", b"payload")
    assert kinds(home.say(Matched("go", ID, signal))) == [Load]
    woken = home.say(Loaded(ID, (home.rows[Held],)))
    assert only(woken, Execute).message.operand == b"payload"
    assert home.rows[Signal].taken == ID
    assert kinds(woken)[-1] == Match


def test_signals_on_record_are_matched_at_start():
    assert Bench("home").say(Pending("go")) == [Match("go")]


def test_one_that_waits_for_an_event_may_time_out():
    home = home_with(park(3, b"f", wait_ns=LEASE, event="go"))
    home.say(Woken(ID), after=LEASE)
    assert only(home.say(Loaded(ID, (home.rows[Held],))), Execute).message.given == TIMED_OUT


def test_one_that_waits_for_an_event_only_is_not_woken_by_hand():
    home = home_with(park(3, b"f", event="go"))
    home.say(Resume(ID))
    assert home.say(Loaded(ID, (home.rows[Held],))) == []


def test_a_parked_one_goes_on_with_another_program():
    home = home_with(park(3, b"f", event="go"))
    new = Code(b"q" * 16, "program", b"new")
    home.say(Program(new))
    home.say(Migrate(ID, 1, 1, new.digest, 7, b"g"))
    home.say(Loaded(ID, (home.rows[Held],)))
    held = home.rows[Held]
    m = message.thaw(held.message, KEY)
    assert (held.state, held.event, held.hop) == (PARKED, "go", 2)
    assert (m.program, m.position, m.frame) == (new.digest, 7, b"g")
    home.say(Migrate(ID, 1, 1, PROGRAM, 3, b"f"))
    assert home.say(Loaded(ID, (held,))) == []


def test_a_deadline_is_on_record_before_it_is_told():
    home = Bench("home")
    m = Message(ID, RUN, 1, 0, PROGRAM, 0, "home", deadline_ns=WALL + LEASE)
    home.say(Submit(m, CODE))
    done = home.say(Tick(), after=LEASE)
    assert kinds(done) == [Stop, Persist, Report]
    assert only(done, Report).failed
    assert b"deadline" in only(done, Report).value


def test_a_deadline_ends_one_whose_steps_keep_home_busy():
    home = Bench("home")
    m = Message(ID, RUN, 1, 0, PROGRAM, 0, "home", deadline_ns=WALL + 10 * MS)
    home.say(Submit(m, CODE))
    said = []
    while not any(isinstance(c, Report) for c in said) and home.now < 20 * MS:
        said = home.say(Executed(m, go("home", 2, b"f")), after=3 * MS)
        m = next((c.message for c in said if isinstance(c, Execute)), m)
    assert home.now == 12 * MS


def test_a_cancelled_one_is_told_once_and_its_step_stopped():
    home = home_with(go("csd", 2, b"frame"))
    done = home.say(Cancel(ID, b"enough"))
    assert only(done, Report) == Report(ID, True, b"enough")
    assert sent(done, "csd") == [Forget(ID)]
    assert home.say(Cancel(ID, b"again")) == []


def test_home_goes_back_to_before_lost_rows():
    home = home_with(go("csd", 2, b"frame"))
    home.hear(passed_of(home, go("gpu", 4, b"refers", flags=REFERS), where="gpu", leased=True))
    assert home.rows[Stepped].message
    back = home.hear(passed_of(home, lost(b"gone"), hop=2), "gpu")
    m = only(back, Place).message
    assert (m.epoch, m.hop, m.frame, m.flags) == (2, 1, b"frame", FRESH)


def test_home_does_not_go_back_behind_what_it_did_itself():
    home = home_with(go("csd", 2, b"frame"))
    home.hear(passed_of(home, perform(5, b"refers", b"call", once=True, flags=REFERS), leased=True))
    begun = message.thaw(home.rows[Held].message, KEY)
    m = only(home.say(Performed(begun, VALUE, b"")), Execute).message
    gone = home.say(Executed(m, lost(b"gone", position=6, frame=b"refers")))
    m = only(gone, Execute).message
    assert (m.given, m.operand, m.position) == (ERROR, b"gone", 6)


def test_home_goes_on_from_its_journal():
    home = home_with(go("csd", 2, b"frame"))
    assert [m.hop for m in sent(restarted(home).first, "csd")] == [1]
    home.hear(Taken(ID, 1, 1))
    other = restarted(home)
    assert not sent(other.first)
    assert Place in kinds(other.say(Tick(), after=LEASE))


def test_a_state_that_cannot_be_read_ends_with_an_error_that_says_so():
    home = Bench("home")
    report = only(home.say(Restored(ID, (), "Held row 7")), Report)
    assert report.failed
    assert b"Held row 7" in report.value
    assert home.rows[Answered].failed


def test_a_program_that_cannot_be_read_ends_its_continuations():
    home = home_with(go("csd", 2, b"frame"))
    other = Bench("home", life=2)
    assert PROGRAM.hex().encode() in only(other.say(Restored(ID, (home.rows[Held],))), Report).value


def test_a_caller_that_comes_again_is_told():
    home = Bench("home")
    home.say(Attach(ID))
    assert home.say(Loaded(ID, (Answered(ID, False, b"42"),))) == [Report(ID, False, b"42")]
    home.say(Attach(ID))
    assert b"not known" in only(home.say(Loaded(ID, ())), Report).value


def test_bytes_that_are_not_well_formed_change_nothing():
    home = home_with(go("csd", 2, b"frame"))
    before = (dict(home.node.entries), home.node.next_ns, home.node.entries[ID].hop)
    said = passed_of(home, where="gpu", leased=True)
    bad = Passed(ID, 1, 1, 5, "gpu", "acme", b"", said.message[:-1], leased=True)
    for data in (b"", b"WHRC", control.freeze(bad, KEY), control.freeze(said, bytes(32))):
        with pytest.raises(CorruptError):
            home.say(Received("csd", data))
    assert before == (dict(home.node.entries), home.node.next_ns, home.node.entries[ID].hop)
    assert not home.node.entries[ID].holders


def test_an_error_of_a_step_is_the_end():
    home = home_with(failed(b"boom"))
    assert only(home.first, Report) == Report(ID, True, b"boom")
