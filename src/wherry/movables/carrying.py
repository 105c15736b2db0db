"""What a home's nodes have done for them: each continuation on its own system, with its datasets.

Nodes are devices, and one more that is `HOME`: it is where the system's client is, whatever a
system calls that. So one home drives continuations of several systems.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec
from msgspec.structs import replace

from wherry.base.errors import WherryError
from wherry.base.ids import digest
from wherry.devices.system import System
from wherry.flow.frame import thaw_frame
from wherry.flow.marks import mark_of
from wherry.flow.nodes import Program
from wherry.flow.run import compiled_of
from wherry.movables import failure, programs, setting
from wherry.movables.awaits import Around, node_for, refers
from wherry.movables.failure import failure_of
from wherry.movables.names import effect
from wherry.movables.setting import Setting
from wherry.movables.steps import Call, Steps, given_to
from wherry.movables.stores import Stores
from wherry.movables.values import answer_of, from_json, to_json
from wherry.run.delivery import Outcome
from wherry.run.journal import Journal
from wherry.run.message import ERROR, NOTHING, VALUE, Message
from wherry.run.records import SETTING, Code

HOME: Final = "home"
"""The node that owns continuations."""


_calls = msgspec.json.Decoder(Call)  # see wherry.base.decoders


class Carrying:
    """What carries out what the nodes of a home ask for.

    Attributes
    ----------
    journal : Journal
        Knows where each continuation runs.
    setting : Setting
        Where those run that begin here.
    given : mapping of str to object
        Datasets that replace those on record, by name.
    system : str, Path, System or None
        Replaces one on record that was given as an object, and cannot be found by name.
    code : Code
        The setting as the journal keeps it.
    """

    def __init__(
        self,
        journal: Journal,
        here: Setting,
        stores: Stores,
        given: Mapping[str, object],
        system: str | Path | System | None = None,
    ) -> None:
        self.journal, self.setting, self.stores = journal, here, stores
        self.given, self.system = given, system
        body = setting.to_bytes(here)
        self.code = Code(digest(body), SETTING, body)
        self._steps: dict[bytes, Steps] = {self.code.digest: self._of(here)}
        known = {one.digest for one in journal.codes() if one.kind == SETTING}
        # Whether no other setting is on record: nothing need be looked up for a step.
        self._alone = known <= {self.code.digest}

    def execute(self, node: str, message: Message) -> Outcome:
        """Carry out a step at a node."""
        steps = self.steps(message.id)
        client = steps.around.setting.system.client
        outcome = steps.execute(client if node == HOME else node, message)
        return replace(outcome, target=HOME) if outcome.target == client else outcome

    def perform(self, message: Message) -> tuple[int, bytes]:
        """Carry out an effect at home; give `VALUE` or `ERROR`, and its bytes."""
        call = _calls.decode(message.operand)
        function = effect(call.name)
        mark = mark_of(function)
        assert mark is not None  # it was registered with one
        try:
            given = [
                from_json(slot.type, bytes(argument), f"effect {call.name}: {slot.name}")
                for slot, argument in zip(mark.parameters, call.arguments, strict=True)
            ]
            return VALUE, to_json(mark.result, function(*given), f"effect {call.name}: the result")
        except Exception as error:  # noqa: BLE001  whatever an effect raises is its result
            return ERROR, failure.to_bytes(failure_of(error, "", call.name, HOME))

    def place(self, message: Message, avoid: Sequence[str]) -> str:
        """Choose where a state may go on."""
        program = self.program(message.program)
        compiled = compiled_of(program)
        values = thaw_frame(program, message.position, message.frame)
        position = compiled.waiting(message.position, values)
        if position.awaits is None or message.given != NOTHING:
            return HOME
        around = self.steps(message.id).around
        system = around.setting.system
        chosen = node_for(position.awaits, given_to(compiled, message, values), around)
        chosen = chosen if chosen not in avoid else system.host
        return HOME if chosen == system.client else chosen

    def release(self, node: str, resource: bytes) -> None:  # noqa: ARG002  one store serves all nodes
        """Let go of what a step left at a node."""
        self.stores.drop(resource)

    def ending(self, id_: bytes) -> None:
        """Note that a continuation is about to be over."""
        self.stores.ending(id_)

    def sweep(self) -> None:
        """Let go of the rows of those that were over when a process was killed."""
        for id_ in self.stores.unfinished():
            answered = self.journal.answered(id_)
            if answered is not None:  # else it goes on, and comes to its end again
                self.ended(id_, answered.value, failed=answered.failed)

    def ended(self, id_: bytes, value: bytes, *, failed: bool) -> None:
        """Let go of the rows of a continuation that is over, but for those of its answer."""
        rows = [] if failed else refers((answer_of(value)[1],))
        self.stores.end(id_, [one.key for one in rows])

    def steps(self, id_: bytes) -> Steps:
        """Give what carries out the steps of a continuation.

        Raises
        ------
        InputError
            If a dataset of it was a table of another process, or is not where it was.
        """
        mine = self.code.digest
        if self._alone:
            return self._steps[mine]
        held = self.journal.held(id_)
        wanted = held.setting if held is not None and held.setting else mine
        if wanted not in self._steps:
            code = self.journal.code(wanted)
            if code is None:
                raise WherryError(f"{id_.hex()} runs where {wanted.hex()} says, not in the journal")
            found = setting.from_bytes(code.body, self.given, self.system)
            self._steps[wanted] = self._of(found)
        return self._steps[wanted]

    def program(self, digest_: bytes) -> Program:
        """Give the program of a digest, from the journal if it is not known here."""
        return program_of(self.journal, digest_)

    def _of(self, where: Setting) -> Steps:
        return Steps(Around(where, self.stores), self.program)


def program_of(journal: Journal, digest_: bytes) -> Program:
    """Give the program of a digest.

    Raises
    ------
    WherryError
        If neither this process nor the journal has it.
    CorruptError
        If the journal's bytes are no program.
    """
    found = programs.known(digest_)
    if found is not None:
        return found
    code = journal.code(digest_)
    if code is None:
        raise WherryError(f"the program {digest_.hex()} is in no journal here")
    return programs.received(code)
