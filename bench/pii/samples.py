"""A message with labels, in the conversation that it stands in."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from data_contracts.findings import Finding


@dataclass(frozen=True)
class Sample:
    """A labelled message.

    Attributes:
        messages: the whole conversation.
        turn: which of its messages is labelled.
        labels: where personal data stands.
        general: where a place or an organisation is only talked about ("I love Italy"). Neither
            finding it nor leaving it is wrong; a strict deployment wants it found.
    """

    messages: tuple[str, ...]
    turn: int
    labels: Sequence[Finding]
    general: Sequence[Finding] = ()

    @property
    def text(self) -> str:
        return self.messages[self.turn]

    def strict(self) -> "Sample":
        """With what is general among the labels."""
        labels = sorted((*self.labels, *self.general), key=lambda label: label.start)
        return replace(self, labels=labels, general=())
