"""What finds personal data by its form: each recogniser one small class, each family a module.

They are Presidio's recognisers and can be added to its registry, but are made to be called
alone: `analyze(text, entities)`, where `gate` is None or matches the text.
"""

from presidio_analyzer import EntityRecognizer

from data_contracts.policy import ScrubPolicy
from tasks.scrub.recognizers.base import ContextPatternRecognizer
from tasks.scrub.recognizers.checked_ids import CheckedIdRecognizer
from tasks.scrub.recognizers.credentials import (
    AwsKeyRecognizer,
    BearerRecognizer,
    HighEntropyRecognizer,
    KnownKeyRecognizer,
    NamedKeyRecognizer,
    PasswordRecognizer,
    PinRecognizer,
    PrivateKeyRecognizer,
    UrlPasswordRecognizer,
)
from tasks.scrub.recognizers.money import CardNumberRecognizer, IbanRecognizer, WalletRecognizer
from tasks.scrub.recognizers.national import (
    ItinRecognizer,
    NhsRecognizer,
    SsnRecognizer,
    UsDriverLicenseRecognizer,
    UsPassportRecognizer,
)
from tasks.scrub.recognizers.network import (
    EmailRecognizer,
    IpRecognizer,
    MacRecognizer,
    SpelledEmailRecognizer,
    UrlRecognizer,
)
from tasks.scrub.recognizers.people import (
    BirthDateRecognizer,
    HandleRecognizer,
    UsernameRecognizer,
)
from tasks.scrub.recognizers.phones import AnyPhoneRecognizer, SpelledPhoneRecognizer
from tasks.scrub.recognizers.places import AddressRecognizer, PostBoxRecognizer, PostcodeRecognizer
from tasks.scrub.recognizers.predefined import predefined
from tasks.scrub.recognizers.references import (
    AccountNumberRecognizer,
    ImeiRecognizer,
    PlateRecognizer,
    SerialNumberRecognizer,
    VinRecognizer,
)

__all__ = ["OURS", "AnyPhoneRecognizer", "CardNumberRecognizer", "recognizers"]

OURS: tuple[type[ContextPatternRecognizer], ...] = (
    EmailRecognizer,
    SpelledEmailRecognizer,
    UrlRecognizer,
    IpRecognizer,
    MacRecognizer,
    AnyPhoneRecognizer,
    SpelledPhoneRecognizer,
    CardNumberRecognizer,
    IbanRecognizer,
    WalletRecognizer,
    AwsKeyRecognizer,
    KnownKeyRecognizer,
    PrivateKeyRecognizer,
    UrlPasswordRecognizer,
    PasswordRecognizer,
    NamedKeyRecognizer,
    PinRecognizer,
    BearerRecognizer,
    HighEntropyRecognizer,
    BirthDateRecognizer,
    HandleRecognizer,
    UsernameRecognizer,
    PostcodeRecognizer,
    AddressRecognizer,
    PostBoxRecognizer,
    ImeiRecognizer,
    VinRecognizer,
    SerialNumberRecognizer,
    AccountNumberRecognizer,
    PlateRecognizer,
    SsnRecognizer,
    ItinRecognizer,
    UsPassportRecognizer,
    UsDriverLicenseRecognizer,
    NhsRecognizer,
    CheckedIdRecognizer,
)


def recognizers(policy: ScrubPolicy) -> list[EntityRecognizer]:
    """Recognisers of the policy's entities, ours before Presidio's.

    Those of a country are among them where the policy names it. Each has a `gate`.
    """
    ours = [
        kind()
        for kind in OURS
        if kind.ENTITY in policy.entities and kind.COUNTRY_CODE in (None, *policy.countries)
    ]
    return ours + predefined(policy, without={kind.ENTITY for kind in OURS})
