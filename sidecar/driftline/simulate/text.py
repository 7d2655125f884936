"""Text with a wanted number of tokens, in a few languages. It reads like text and says nothing."""

from __future__ import annotations

import re
from functools import cache
from itertools import product
from random import Random

LANGUAGES = ("en", "es", "de")

_TOKEN = re.compile(r" ?[^\W\d_]{1,6}|\d{1,3}| ?[^\w\s]|\s+|_+")

# A sentence is one subject, one predicate and one circumstance: 12³ of them in each language.
_GRAMMAR = {
    "en": """
The warehouse team | A returning customer | The night shift | Our finance group
The delivery service | The new release | Every open ticket | The shipping label | A second reviewer
The monthly report | The support desk | The booking system

checked the order twice | was moved to the next queue | asked for the missing invoice
kept the old address | found three duplicate entries | sent the parcel back
changed the payment method | opened a new case | updated the delivery date | compared both versions
needs the signed form | closed the account

before the end of the week | after the call with the carrier | because the price had changed
while the site was under maintenance | with the help of the local office | in less than two hours
for the second time this month | as agreed in the contract | when the stock was counted
despite the long weekend | during the last inspection | under the terms of the warranty
""",
    "es": """
El equipo del almacén | Una clienta habitual | El turno de noche | Nuestro grupo de finanzas
El servicio de entrega | La nueva versión | Cada solicitud abierta | La etiqueta de envío
Una segunda revisora | El informe mensual | La mesa de ayuda | El sistema de reservas

revisó el pedido dos veces | pasó a la siguiente cola | pidió la factura que faltaba
conservó la dirección antigua | encontró tres entradas duplicadas | devolvió el paquete
cambió la forma de pago | abrió un caso nuevo | actualizó la fecha de entrega
comparó las dos versiones | necesita el formulario firmado | cerró la cuenta

antes del fin de semana | después de la llamada con el transportista
porque el precio había cambiado | mientras el sitio estaba en mantenimiento
con la ayuda de la oficina local | en menos de dos horas | por segunda vez este mes
según lo acordado en el contrato | cuando se contaron las existencias | a pesar del puente
durante la última inspección | bajo las condiciones de la garantía
""",
    "de": """
Das Lagerteam | Eine Stammkundin | Die Nachtschicht | Unsere Buchhaltung | Der Lieferdienst
Die neue Version | Jede offene Anfrage | Das Versandetikett | Eine zweite Prüferin
Der Monatsbericht | Der Kundendienst | Das Buchungssystem

prüfte die Bestellung zweimal | kam in die nächste Warteschlange | verlangte die fehlende Rechnung
behielt die alte Adresse | fand drei doppelte Einträge | schickte das Paket zurück
änderte die Zahlungsart | eröffnete einen neuen Fall | verschob den Liefertermin
verglich beide Fassungen | braucht das unterschriebene Formular | schloss das Konto

vor dem Ende der Woche | nach dem Gespräch mit der Spedition | weil sich der Preis geändert hatte
während die Seite gewartet wurde | mit Hilfe der örtlichen Filiale | in weniger als zwei Stunden
zum zweiten Mal in diesem Monat | wie im Vertrag vereinbart | als der Bestand gezählt wurde
trotz des langen Wochenendes | bei der letzten Prüfung | nach den Bedingungen der Garantie
""",
}

_IDENTIFIERS = ("order", "parcel", "invoice", "carrier", "address", "refund", "ticket", "account")
_CODE = (
    "def load_{a}(path):\n    with open(path) as file:\n        return [{a}_of(line) for line in file]\n\n",
    "class {A}:\n    def __init__(self, {b}):\n        self.{b} = {b}\n        self.lines = []\n\n",
    "for {a} in {b}.lines:\n    if {a}.total > limit:\n        held.append({a})\n\n",
    "def total_{a}({b}, rate):\n    return round(sum(x.price for x in {b}.lines) * (1 + rate), 2)\n\n",
    "try:\n    {a} = queue.get(timeout=5)\nexcept Empty:\n    log.info('no {a}')\nelse:\n    ship({a})\n\n",
)


def tokens(text: str) -> list[str]:
    """The pieces a simulated tokenizer makes of `text`; joined, they are `text` again.

    About four characters each in English, as byte-pair vocabularies have it.

    >>> tokens("Refund order 4711, please.")
    ['Refund', ' order', ' ', '471', '1', ',', ' please', '.']
    """
    return _TOKEN.findall(text)


@cache
def _corpus(language: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Shuffled tokens of every passage there is, and where passages begin."""
    rng = Random(f"driftline:{language}")
    if language == "code":
        names = list(product(_IDENTIFIERS, repeat=2))
        passages = [template.format(a=a, A=a.title(), b=b) for template in _CODE for a, b in names if a != b]
    else:
        parts = [re.split(r"\s*[|\n]\s*", part.strip()) for part in _GRAMMAR[language].split("\n\n")]
        passages = [f" {subject} {predicate} {when}." for subject, predicate, when in product(*parts)]
    rng.shuffle(passages)
    pieces: list[str] = []
    starts: list[int] = []
    for passage in passages:
        starts.append(len(pieces))
        pieces += tokens(passage)
    return tuple(pieces), tuple(starts)


def passage(count: int, language: str, rng: Random) -> list[str]:
    """`count` tokens of prose in `language`, or of Python where it is `code`, from a random beginning."""
    pieces, starts = _corpus(language)
    start = rng.choice(starts)
    found = list(pieces[start : start + count])
    while len(found) < count:
        found += pieces[: count - len(found)]
    found[0] = found[0].lstrip(" ")
    return found


@cache
def _words(language: str) -> frozenset[str]:
    return frozenset(re.findall(r"[^\W\d_]+", _GRAMMAR[language].lower()))


def language_of(text: str) -> str:
    """The one of `LANGUAGES` whose words `text` holds most of; English where it holds none."""
    words = re.findall(r"[^\W\d_]+", text[-2_000:].lower())
    return max(LANGUAGES, key=lambda language: sum(word in _words(language) for word in words))
